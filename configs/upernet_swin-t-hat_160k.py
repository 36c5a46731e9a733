# Swin-T with carriers in place of shifted windows (table 7), from Swin's weights where they fit.
_base_ = './_base_/upernet_160k.py'

model = dict(
    backbone=dict(
        arch='swin_t_hat',
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
