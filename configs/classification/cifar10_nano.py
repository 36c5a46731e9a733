# For a CPU: nano at 64x64, from the weights of this package (model.backbone.init_cfg=None: from nothing).
_base_ = '../_base_/cifar10.py'

model = dict(
    backbone=dict(
        arch='nano',
        window_sizes=(7, 7, 4, 2),
        drop_path_rate=0.0,
        init_cfg=dict(type='Pretrained', checkpoint='fastervit://nano'),
    ),
    head=dict(in_channels=256),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=(64, 64), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
