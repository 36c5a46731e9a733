_base_ = './_base_/mask2former-panoptic_50e.py'

model = dict(
    backbone=dict(
        arch='2',
        init_cfg=dict(
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_2_224_1k.pth.tar'
        ),
    ),
    panoptic_head=dict(in_channels=[96, 192, 384, 768]),
)
