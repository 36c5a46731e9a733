# Mask2Former for three classes of objects, small enough for a CPU.
_base_ = './mask2former_parts.py'

model = dict(
    type='Mask2Former',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_mask=True,
    ),
    backbone=dict(type='FasterViT', arch='nano'),
    panoptic_head=dict(
        type='Mask2FormerHead',
        num_things_classes=3,
        num_stuff_classes=0,
        loss_cls=dict(type='CrossEntropyLoss', loss_weight=2.0, class_weight=[1.0] * 3 + [0.1]),
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
    panoptic_fusion_head=dict(type='MaskFormerFusionHead', num_things_classes=3, num_stuff_classes=0),
    train_cfg={{_base_.matching}},
    test_cfg=dict(panoptic_on=False, semantic_on=False, instance_on=True, max_per_image=40),
)
