"""Names of published tensors and ours."""

REBUILT, DROPPED = 'rebuilt', 'dropped'
#: The same for Swin's published files, whose windows and norms a Swin with carriers shares; its tables of
#: biases are replaced by MLPs. Downsampling belongs to the stage before it, also in timm's files.
SWIN_TABLE: tuple[tuple[str, str], ...] = (
    (r'.*\.(?:relative_position_bias_table|relative_position_index|attn_mask)$', DROPPED),
    (r'(?:norm|head)\..*', DROPPED),
    (r'patch_embed\.(proj|norm)\.', r'stem.\1.'),
    (
        r'layers\.(\d)\.blocks\.(\d+)\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.',
        r'stages.\1.blocks.\2.layer.\3.',
    ),
    (r'layers\.(\d)\.downsample\.', r'stages.\1.downsample.'),
)
_BLOCK = r'levels\.([23])\.blocks\.(\d+)\.'
#: Published name -> ours, first match. REBUILT: derived from weights; DROPPED: not part of the backbone.
KEY_TABLE: tuple[tuple[str, str], ...] = (
    (r'.*\.(?:relative_bias|relative_coords_table|relative_position_index)$', REBUILT),
    (r'(?:norm|head)\..*', DROPPED),
    (r'patch_embed\.conv_down\.0\.', r'stem.conv1.'),
    (r'patch_embed\.conv_down\.1\.', r'stem.norm1.'),
    (r'patch_embed\.conv_down\.3\.', r'stem.conv2.'),
    (r'patch_embed\.conv_down\.4\.', r'stem.norm2.'),
    (r'levels\.([01])\.blocks\.(\d+)\.(conv1|norm1|conv2|norm2)\.', r'stages.\1.blocks.\2.\3.'),
    (r'levels\.([012])\.downsample\.norm\.', r'stages.\1.downsample.norm.'),
    (r'levels\.([012])\.downsample\.reduction\.0\.', r'stages.\1.downsample.conv.'),
    (
        r'levels\.([23])\.global_tokenizer\.(?:to_global_feature\.pos|pos_embed)\.',
        r'stages.\1.tokenizer.conv.',
    ),
    (_BLOCK + r'pos_embed\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.position.fc1.'),
    (_BLOCK + r'pos_embed\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.position.fc2.'),
    (_BLOCK + r'attn\.pos_emb_funct\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.bias.fc1.'),
    (_BLOCK + r'attn\.pos_emb_funct\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.bias.fc2.'),
    (_BLOCK + r'(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.', r'stages.\1.blocks.\2.layer.\3.'),
    (_BLOCK + r'gamma3$', r'stages.\1.blocks.\2.layer.scale1'),
    (_BLOCK + r'gamma4$', r'stages.\1.blocks.\2.layer.scale2'),
    (_BLOCK + r'hat_pos_embed\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.carrier.position.fc1.'),
    (_BLOCK + r'hat_pos_embed\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.carrier.position.fc2.'),
    (_BLOCK + r'hat_attn\.pos_emb_funct\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.carrier.bias.fc1.'),
    (_BLOCK + r'hat_attn\.pos_emb_funct\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.carrier.bias.fc2.'),
    (
        _BLOCK + r'hat_(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.',
        r'stages.\1.blocks.\2.carrier.layer.\3.',
    ),
    (_BLOCK + r'gamma1$', r'stages.\1.blocks.\2.carrier.layer.scale1'),
    (_BLOCK + r'gamma2$', r'stages.\1.blocks.\2.carrier.layer.scale2'),
)
