# UPerNet with the nano backbone and narrow heads on the shapes dataset: minutes on two CPU cores
# (`make demo-all`).
_base_ = ['mmseg::_base_/models/upernet_swin.py', '../_base_/demo_semantic.py']
custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(size_divisor=32),
    # stages 3 and 4 have 8x10 and 4x5 tokens: windows of 5 need less padding than windows of 7
    backbone=dict(_delete_=True, type='FasterViT', arch='nano', window_sizes=(7, 7, 5, 5)),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        channels=64,
        num_classes=4,
        loss_decode=dict(class_weight=[0.3, 1.0, 1.0, 1.0]),
    ),
    auxiliary_head=dict(in_channels=128, channels=32, num_classes=4),
)
