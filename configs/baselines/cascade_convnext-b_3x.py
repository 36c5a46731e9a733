_base_ = '../_base_/cascade_3x.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        model_name='convnext_base',
        drop_path_rate=0.7,
        pretrained='convnext_base.fb_in1k',
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
