# A plain transformer has one map, of stride 16: deconvolutions and pooling make the pyramid's four (strides 4
# to 32) of the outputs of four blocks, as the row of the paper does (it follows Swin's comparison).
_base_ = '../_base_/cascade_3x.py'

custom_imports = dict(imports=['fastervit_backbone', 'mmpretrain.models', 'mmseg.models'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.2,
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
        final_norm=False,
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone',
            checkpoint='https://mmassets.onedl.ai/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth',
        ),
    ),
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=384, norm_cfg=dict(type='SyncBN', requires_grad=True)),
        dict(type='FPN', in_channels=[384, 384, 384, 384], out_channels=256, num_outs=5),
    ],
)
