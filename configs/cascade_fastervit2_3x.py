_base_ = './_base_/cascade_3x.py'

model = dict(
    backbone=dict(
        arch='2',
        drop_path_rate=0.2,
        init_cfg=dict(
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_2_224_1k.pth.tar'
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
