_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_300e.py']

model = dict(
    coefficient=1.0,
    backbone=dict(arch='3', drop_path_rate=0.3),
    head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.075))
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-4, by_epoch=True, begin=0, end=35, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=265,
        eta_min=5e-6,
        by_epoch=True,
        begin=35,
        end=300,
        convert_to_iter_based=True,
    ),
]
