# Mask2Former for label maps of four classes, small enough for a CPU.
_base_ = './mask2former_parts.py'

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(type='FasterViT', arch='nano'),
    decode_head=dict(
        type='Mask2FormerHead',
        num_classes=4,
        align_corners=False,
        loss_cls=dict(type='mmdet.CrossEntropyLoss', loss_weight=2.0, class_weight=[1.0] * 4 + [0.1]),
        train_cfg={{_base_.matching}},
        in_channels=[32, 64, 128, 256],
        strides=[4, 8, 16, 32],
        feat_channels=128,
        out_channels=128,
        num_queries=40,
        num_transformer_feat_level=3,
        enforce_decoder_input_project=False,
        pixel_decoder={{_base_.pixel_decoder}},
        transformer_decoder={{_base_.transformer_decoder}},
        positional_encoding={{_base_.positions}},
        loss_mask={{_base_.loss_mask}},
        loss_dice={{_base_.loss_dice}},
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
