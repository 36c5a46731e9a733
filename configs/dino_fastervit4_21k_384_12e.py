_base_ = './dino_fastervit4_12e.py'

# pretrained on ImageNet-21K; windows of 24 and 12 tokens a side, no carrier tokens
model = dict(
    backbone=dict(
        arch='4_21k_384',
        init_cfg=dict(
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_4_21k_384_w24.pth.tar'
        ),
    ),
)
