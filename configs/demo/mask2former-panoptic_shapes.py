# Mask2Former for panoptic segmentation, with the nano backbone on the shapes dataset and their background
# (`make demo-all`); 15 epochs from the package's weights, as its queries learn slowly.
_base_ = [
    'mmdet::_base_/default_runtime.py',
    '../_base_/mask2former_small.py',
    '../_base_/shapes_panoptic.py',
    '../_base_/demo_schedule.py',
]
custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='fastervit://nano')),
    data_preprocessor=dict(mask_pad_value=0, pad_seg=True, seg_pad_value=255),
    panoptic_head=dict(num_stuff_classes=1, loss_cls=dict(class_weight=[1.0] * 4 + [0.1])),
    panoptic_fusion_head=dict(num_stuff_classes=1),
    test_cfg=dict(panoptic_on=True, object_mask_thr=0.5, iou_thr=0.8, filter_low_score=True),
)
train_cfg = dict(max_epochs=15, val_interval=15)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=15, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(max_keep_ckpts=2))
