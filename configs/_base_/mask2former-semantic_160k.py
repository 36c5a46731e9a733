# Mask2Former on ADE20K, semantic segmentation (arXiv 2112.01527, section 4.3): 100 queries, 512x512 crops,
# AdamW 1e-4 (backbone 1e-5), weight decay 0.05, batch 16, 160k iterations.
_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'

custom_imports = dict(
    _delete_=True, imports=['fastervit_backbone', 'mmdet.models'], allow_failed_imports=False
)

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
    decode_head=dict(in_channels=[64, 128, 256, 512]),
)

# The backbone learns at a tenth; norms, biases, layer scales and queries do not decay (docs/train.md).
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, backbone_lr_mult=0.1, decay_embeddings=False),
)

data_root = '{{$ADE_ROOT:data/ade/ADEChallengeData2016}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
