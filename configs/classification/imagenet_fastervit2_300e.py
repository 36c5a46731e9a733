_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(
    coefficient=1.0,
    backbone=dict(arch='2', drop_path_rate=0.2),
    head=dict(in_channels=768),
)
