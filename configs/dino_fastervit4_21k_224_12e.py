_base_ = './dino_fastervit4_12e.py'

# The detector that the paper's authors released (fastervit convert-checkpoint reads it): windows of 14 and 7
# tokens a side, no carrier tokens; BatchNorm on the outputs, biases in the neck, one head for all layers.
model = dict(
    backbone=dict(
        arch='4_21k_224',
        out_norm='bn',
        init_cfg=dict(
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_4_21k_224_w14.pth.tar'
        ),
    ),
    neck=dict(bias=True),
)
