_base_ = './cascade_swin-s_3x.py'

model = dict(
    backbone=dict(
        embed_dims=128,
        num_heads=[4, 8, 16, 32],
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224.pth'
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
