# DINO on COCO, 4-scale (arXiv 2203.03605, table 8): 900 queries, lr 1e-4 (backbone 1e-5), weight decay 1e-4,
# batch 16, gradient norm clipped at 0.1, multi-scale 480-800 with the crop branch; 12 epochs, decay at 11.
_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'

custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='FasterViT',
        arch='0',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_0_224_1k.pth.tar',
        ),
    ),
    neck=dict(in_channels=[128, 256, 512]),  # strides 8, 16, 32; the neck adds stride 64
)

data_root = '{{$COCO_ROOT:data/coco}}/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='auto'))
