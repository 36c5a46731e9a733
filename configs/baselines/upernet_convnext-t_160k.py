_base_ = '../_base_/upernet_160k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmBackbone',
        model_name='convnext_tiny',
        drop_path_rate=0.4,
        pretrained='convnext_tiny.fb_in1k',
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
