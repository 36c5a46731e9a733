# Swin-T with carriers in place of shifted windows (table 7), in the recipe of baselines/imagenet_swin-t_300e.
_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(backbone=dict(arch='swin_t_hat'), head=dict(in_channels=768))
