_base_ = '../_base_/cascade_3x.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        model_name='convnext_small',
        drop_path_rate=0.6,
        pretrained='convnext_small.fb_in1k',
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
