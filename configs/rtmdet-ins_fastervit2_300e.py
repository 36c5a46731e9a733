_base_ = './_base_/rtmdet-ins_300e.py'

model = dict(
    backbone=dict(
        arch='2',
        init_cfg=dict(
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_2_224_1k.pth.tar'
        ),
    ),
    neck=dict(in_channels=[192, 384, 768]),
)
