# FasterViT-nano: the paper's recipe, shortened for a CPU. Windows of 4 and 2 leave no padding.
_base_ = ['../_base_/imagenet200.py', '../_base_/imagenet_300e.py']

epochs, warmup = 6, 1
model = dict(
    coefficient=0.1,
    data_preprocessor=dict(num_classes=200),
    backbone=dict(arch='nano', drop_path_rate=0.0, window_sizes=(7, 7, 4, 2)),
    head=dict(in_channels=256, num_classes=200),
    # short: CutMix in three of ten batches, no Mixup
    train_cfg=dict(_delete_=True, augments=[dict(type='CutMix', alpha=1.0)], probs=[0.3]),
)

optim_wrapper = dict(optimizer=dict(lr=5e-3))
auto_scale_lr = dict(base_batch_size=128)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=epochs - warmup,
        eta_min=5e-6,
        by_epoch=True,
        begin=warmup,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=epochs)
custom_hooks = [
    dict(type='EMAHook', momentum=2e-3, update_buffers=True, priority='ABOVE_NORMAL'),
    dict(type='MESAHook', start=0.25),
]
default_hooks = dict(logger=dict(interval=50))
