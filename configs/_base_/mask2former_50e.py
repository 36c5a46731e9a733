# Mask2Former on COCO, instance segmentation (arXiv 2112.01527, table 1): 100 queries, large-scale jitter to
# 1024x1024, AdamW 1e-4 (backbone 1e-5), batch 16, 50 epochs = 368750 iterations.
_base_ = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'

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
    panoptic_head=dict(in_channels=[64, 128, 256, 512]),
)

# The backbone learns at a tenth; norms, biases, layer scales and queries do not decay (docs/train.md).
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, backbone_lr_mult=0.1, decay_embeddings=False),
)

data_root = '{{$COCO_ROOT:data/coco}}/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
