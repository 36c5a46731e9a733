_base_ = '../_base_/fpn_40k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        model_name='poolformer_m36',
        drop_path_rate=0.1,
        pretrained='poolformer_m36.sail_in1k',
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
