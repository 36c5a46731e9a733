# FasterViT-4 at 384x384 with windows of 12 (table 6), from imagenet_fastervit4_w8: load_from=FILE. The paper
# names 30 epochs and no learning rate; 7e-5 is that of its other fine-tuning.
_base_ = ['../_base_/imagenet_384.py', '../_base_/imagenet_ft.py']

model = dict(
    backbone=dict(arch='4', window_sizes=(7, 7, 12, 12), drop_path_rate=0.3),
    head=dict(in_channels=1568),
)
