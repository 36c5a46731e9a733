# 200 classes of ImageNet at 32x32, enlarged to 64x64 (docs/classification.md unpacks them), read from
# IMAGENET200_ROOT.
_base_ = './imagenet.py'

data_root = '{{$IMAGENET200_ROOT:{{ fileDirname }}/../../work_dirs/data/imagenet200}}'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.35, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    num_workers=1, dataset=dict(data_root=data_root, subset=True, pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, subset=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
