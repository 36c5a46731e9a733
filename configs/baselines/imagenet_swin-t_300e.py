# Swin-T in the recipe of imagenet_fastervit0_300e: only the backbone differs.
_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(
    backbone=dict(_delete_=True, type='SwinTransformer', arch='tiny', img_size=224, drop_path_rate=0.2),
    head=dict(in_channels=768),
)
