# ConvNeXt-T in the recipe of imagenet_fastervit0_300e: only the backbone differs; it pools its maps itself.
_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(
    backbone=dict(_delete_=True, type='ConvNeXt', arch='tiny', drop_path_rate=0.1),
    neck=None,
    head=dict(in_channels=768),
)
