_base_ = ['../_base_/imagenet_384.py', '../_base_/imagenet_ft.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformerV2',
        arch='tiny',
        img_size=384,
        window_size=[12, 12, 12, 12],
        drop_path_rate=0.2,
    ),
    head=dict(in_channels=768),
)
