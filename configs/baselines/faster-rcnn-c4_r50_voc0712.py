# mmdet's own Faster R-CNN of ResNet-50's fourth stage on PASCAL VOC: 18,000 iterations of 16 images. It needs
# BGR images in 0..255 and freezes the first stages, as its Caffe weights ask.
_base_ = 'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py'

custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

data_root = '{{$VOC_ROOT:data/VOCdevkit}}/'
voc2007, voc2012 = [
    dict(
        type='VOCDataset',
        data_root=data_root,
        ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root=f'VOC{year}/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline={{_base_.train_pipeline}},
    )
    for year in (2007, 2012)
]
train_dataloader = dict(dataset=dict(ignore_keys=['dataset_type'], datasets=[voc2007, voc2012]))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='auto'))
auto_scale_lr = dict(base_batch_size=16)
