# Shared by the segmentation demos: 1400 iterations with batch 4 on the shapes dataset.
_base_ = [
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_40k.py',
    './shapes_semantic.py',
]

train_cfg = dict(max_iters=1400, val_interval=700)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=1400),
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=6e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=1),
)
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=700, max_keep_ckpts=2))
