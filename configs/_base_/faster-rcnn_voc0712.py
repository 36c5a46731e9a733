# Faster R-CNN + FPN, trained on PASCAL VOC 2007 + 2012 trainval and tested on 2007 test (11-point mAP at
# IoU 0.5): 3 repeats x 4 epochs = 12.
_base_ = 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'

custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='FasterViT',
        arch='0',
        drop_path_rate=0.2,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_0_224_1k.pth.tar',
        ),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

data_root = '{{$VOC_ROOT:data/VOCdevkit}}/'
voc2007, voc2012 = [
    dict(
        type='VOCDataset',
        data_root=data_root,
        ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root=f'VOC{year}/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
        pipeline={{_base_.train_pipeline}},
    )
    for year in (2007, 2012)
]
train_dataloader = dict(dataset=dict(dataset=dict(datasets=[voc2007, voc2012])))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='auto'))
