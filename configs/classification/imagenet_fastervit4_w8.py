# FasterViT-4 at 256x256 with windows of 8 (table 6): the start of the higher resolutions.
_base_ = ['../_base_/imagenet_256.py', '../_base_/imagenet_300e.py']

model = dict(
    coefficient=3.0,
    backbone=dict(arch='4', window_sizes=(7, 7, 8, 8), drop_path_rate=0.3),
    head=dict(in_channels=1568),
)

optim_wrapper = dict(optimizer=dict(weight_decay=0.12))
