# FasterViT-4 without carriers on ImageNet-21K (appendix B): LAMB 4e-3, 90 epochs; read from IMAGENET21K_ROOT.
_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(
    data_preprocessor=dict(num_classes=21841),
    backbone=dict(arch='4_21k_224', drop_path_rate=0.3),
    head=dict(in_channels=1568, num_classes=21841),
)
data_root = '{{$IMAGENET21K_ROOT:data/imagenet21k}}'
train_dataloader = dict(dataset=dict(data_root=data_root, folders='imagenet-21k'))
val_dataloader = dict(dataset=dict(data_root=data_root, folders='imagenet-21k'))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=0.12))
param_scheduler = [
    dict(type='LinearLR', start_factor=2.5e-4, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=85,
        eta_min=5e-6,
        by_epoch=True,
        begin=5,
        end=90,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=90)
# the paper names no MESA here: nothing sets a teacher
custom_hooks = [dict(type='EMAHook', momentum=2e-4, update_buffers=True, priority='ABOVE_NORMAL')]
