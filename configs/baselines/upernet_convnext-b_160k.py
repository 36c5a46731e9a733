_base_ = '../_base_/upernet_160k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        model_name='convnext_base',
        drop_path_rate=0.4,
        pretrained='convnext_base.fb_in1k',
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
