_base_ = ['../_base_/imagenet_512.py', '../_base_/imagenet_ft.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformerV2',
        arch='small',
        img_size=512,
        window_size=[16, 16, 16, 16],
        drop_path_rate=0.3,
    ),
    head=dict(in_channels=768),
)
