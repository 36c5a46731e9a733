_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(
    coefficient=0.5,
    backbone=dict(arch='1', drop_path_rate=0.2),
    head=dict(in_channels=640),
)
