_base_ = '../_base_/upernet_160k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SVT',
        embed_dims=[96, 192, 384, 768],
        num_heads=[3, 6, 12, 24],
        mlp_ratios=[4, 4, 4, 4],
        depths=[2, 2, 18, 2],
        sr_ratios=[8, 4, 2, 1],
        qkv_bias=True,
        norm_cfg=dict(type='LN'),
        windiow_sizes=[7, 7, 7, 7],  # mmseg spells it so
        norm_after_stage=True,
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/twins/alt_gvt_base_20220308-1b7eb711.pth',
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
