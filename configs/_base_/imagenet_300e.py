# The paper's training on ImageNet-1K (appendix B and I): LAMB 5e-3 at batch 4096, 300 epochs (20 of warm-up,
# cosine) and 10 of cool-down, moving average of weights and buffers, MESA from a quarter on. Where paper,
# training notes and published settings disagree: docs/classification.md. The data
# are another base: imagenet.py or imagenet_SIZE.py.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

model = dict(
    type='MESAClassifier',
    coefficient=0.25,
    data_preprocessor=dict(
        num_classes=1000, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(type='FasterViT', arch='0', out_indices=(3,), out_norm='bn', drop_path_rate=0.2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

# lr is for batch 4096; fastervit train scales it to the actual batch
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',  # no decay of norms and biases
    optimizer=dict(type='Lamb', lr=5e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=280,
        eta_min=5e-6,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=310, val_interval=1)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')

custom_hooks = [
    dict(type='EMAHook', momentum=2e-4, update_buffers=True, priority='ABOVE_NORMAL'),
    dict(type='MESAHook', start=0.25, epochs=300),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='accuracy/top1', rule='greater'))
