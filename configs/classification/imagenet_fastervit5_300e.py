_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(
    coefficient=5.0,
    backbone=dict(arch='5', drop_path_rate=0.3),
    head=dict(in_channels=2560),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.12))
