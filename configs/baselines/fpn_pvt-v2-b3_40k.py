_base_ = '../_base_/fpn_40k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        model_name='pvt_v2_b3',
        drop_path_rate=0.1,
        pretrained='pvt_v2_b3.in1k',
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
