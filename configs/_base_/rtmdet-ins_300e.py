# RTMDet-Ins on COCO (arXiv 2212.07784, section 4): mosaic, mixup and large-scale jitter at 640x640 for 280 of
# 300 epochs, AdamW 4e-3 at batch 256, moving average. Neck and head are those of RTMDet-Ins-l.
_base_ = 'mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py'

custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='FasterViT',
        arch='0',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_0_224_1k.pth.tar',
        ),
    ),
    neck=dict(in_channels=[128, 256, 512]),
)

data_root = '{{$COCO_ROOT:data/coco}}/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# lr is for batch 256; fastervit train scales it to the actual batch
auto_scale_lr = dict(base_batch_size=256)

# mmdet's test-time augmentation merges boxes and has no masks
tta_model = tta_pipeline = None
