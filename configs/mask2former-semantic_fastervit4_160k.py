_base_ = './_base_/mask2former-semantic_160k.py'

model = dict(
    backbone=dict(
        arch='4',
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_4_224_1k.pth.tar'
        ),
    ),
    decode_head=dict(in_channels=[196, 392, 784, 1568]),
)
