# Cascade Mask R-CNN + FPN on COCO: the paper's training (section 4.2). The head and pipeline are those of its
# Swin-T row, taken from mmdet's ConvNeXt config: 4conv1fc box heads with GIoU, multi-scale 480-800 with the
# crop branch, 3x = 36 epochs, decay at 27 and 33.
_base_ = 'mmdet::convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py'

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

data_root = '{{$COCO_ROOT:data/coco}}/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# lr is for batch 16; fastervit train scales it to the actual batch.
# Set paramwise_cfg.decay_rate below 1 for layer-wise learning-rate decay.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=1.0),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
auto_scale_lr = dict(base_batch_size=16)

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='auto'))
