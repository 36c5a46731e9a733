# Parts of Mask2Former's head, small enough for a CPU: a narrow transformer with few layers and 40 queries.
# Their types name mmdet, so that they serve mmdet's and mmseg's heads.
attention = dict(embed_dims=128, num_heads=4, batch_first=True)
ffn = dict(embed_dims=128, feedforward_channels=256, num_fcs=2, ffn_drop=0.0)
positions = dict(num_feats=64, normalize=True)

pixel_decoder = dict(
    type='mmdet.MSDeformAttnPixelDecoder',
    num_outs=3,
    norm_cfg=dict(type='GN', num_groups=8),
    act_cfg=dict(type='ReLU'),
    encoder=dict(
        num_layers=2,
        layer_cfg=dict(
            self_attn_cfg=dict(
                embed_dims=128, num_heads=4, num_levels=3, num_points=4, dropout=0.0, batch_first=True
            ),
            ffn_cfg=ffn,
        ),
    ),
    positional_encoding=positions,
)
transformer_decoder = dict(
    return_intermediate=True,
    num_layers=3,
    layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
    init_cfg=None,
)
loss_mask = dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0)
loss_dice = dict(type='mmdet.DiceLoss', activate=True, naive_dice=True, eps=1.0, loss_weight=5.0)
matching = dict(
    num_points=2000,
    oversample_ratio=3.0,
    importance_sample_ratio=0.75,
    assigner=dict(
        type='mmdet.HungarianAssigner',
        match_costs=[
            dict(type='mmdet.ClassificationCost', weight=2.0),
            dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
            dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
        ],
    ),
    sampler=dict(type='mmdet.MaskPseudoSampler'),
)
