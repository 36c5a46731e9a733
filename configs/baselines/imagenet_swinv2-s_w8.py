_base_ = ['../_base_/imagenet_256.py', '../_base_/imagenet_300e.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformerV2',
        arch='small',
        img_size=256,
        window_size=[8, 8, 8, 8],
        drop_path_rate=0.3,
    ),
    head=dict(in_channels=768),
)
