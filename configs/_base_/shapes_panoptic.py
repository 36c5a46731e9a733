# The demo's shapes dataset (fastervit make-shapes) as panoptic segmentation: things on a background of stuff.
_base_ = './shapes_instance.py'

data_root = '{{$SHAPES_ROOT:{{ fileDirname }}/../../work_dirs/demo/data}}/'
metainfo = dict(
    classes=('circle', 'square', 'triangle', 'background'),
    thing_classes=('circle', 'square', 'triangle'),
    stuff_classes=('background',),
    palette=[(220, 60, 60), (60, 140, 220), (80, 190, 90), (110, 110, 110)],
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 128), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(seg='panoptic/train/'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(seg='panoptic/val/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='PanopticMetric',
        ann_file=data_root + 'annotations/panoptic_val.json',
        seg_prefix=data_root + 'panoptic/val/',
    ),
    dict(type='CocoMetric', ann_file=data_root + 'annotations/instances_val.json', metric=['bbox', 'segm']),
]
test_evaluator = val_evaluator
