"""Convert the detector that the paper's authors released (DINO, FasterViT-4-21K-224) to mmdet's DINO.

Its decoder layers share their heads; mmdet's have one each, which get copies. Its 91 classes are COCO's
category ids; mmdet has the 80 that are in use. Facts about the file: docs/backbone.md.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fastervit_backbone.checkpoints.convert import convert_content, is_released_dino, refuse_same_file
from fastervit_backbone.checkpoints.declared import Declared
from fastervit_backbone.checkpoints.io import read_checkpoint, unwrap_state_dict, write_state_dict
from fastervit_backbone.checkpoints.published import LoadReport, place_tensors, read_tensors, rename
from fastervit_backbone.models.arch import ARCHS
from fastervit_backbone.models.fastervit import FasterViT
from fastervit_backbone.utils.errors import CheckpointError

ARCH = '4_21k_224'
LICENSE = (
    'CC BY-NC-SA 4.0 (NVlabs/FasterViT): not for commercial use; models trained from it may fall under it'
)
#: Category ids that COCO does not use.
_UNUSED_IDS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
_USED_IDS = [i for i in range(91) if i not in _UNUSED_IDS]
_NUM_LAYERS = 6

_ENCODER, _DECODER = r'transformer\.encoder\.layers\.(\d)\.', r'transformer\.decoder\.layers\.(\d)\.'
#: The file's name -> mmdet's; norms in the order in which a layer applies them.
_TABLE: tuple[tuple[str, str], ...] = (
    (r'input_proj\.([012])\.0\.', r'neck.convs.\1.conv.'),
    (r'input_proj\.([012])\.1\.', r'neck.convs.\1.gn.'),
    (r'input_proj\.3\.0\.', r'neck.extra_convs.0.conv.'),
    (r'input_proj\.3\.1\.', r'neck.extra_convs.0.gn.'),
    (_ENCODER + r'self_attn\.', r'encoder.layers.\1.self_attn.'),
    (_ENCODER + r'norm1\.', r'encoder.layers.\1.norms.0.'),
    (_ENCODER + r'norm2\.', r'encoder.layers.\1.norms.1.'),
    (_ENCODER + r'linear1\.', r'encoder.layers.\1.ffn.layers.0.0.'),
    (_ENCODER + r'linear2\.', r'encoder.layers.\1.ffn.layers.1.'),
    (_DECODER + r'self_attn\.', r'decoder.layers.\1.self_attn.attn.'),
    (_DECODER + r'cross_attn\.', r'decoder.layers.\1.cross_attn.'),
    (_DECODER + r'norm2\.', r'decoder.layers.\1.norms.0.'),
    (_DECODER + r'norm1\.', r'decoder.layers.\1.norms.1.'),
    (_DECODER + r'norm3\.', r'decoder.layers.\1.norms.2.'),
    (_DECODER + r'linear1\.', r'decoder.layers.\1.ffn.layers.0.0.'),
    (_DECODER + r'linear2\.', r'decoder.layers.\1.ffn.layers.1.'),
    (r'transformer\.decoder\.norm\.', r'decoder.norm.'),
    (r'transformer\.decoder\.ref_point_head\.layers\.', r'decoder.ref_point_head.layers.'),
    (r'transformer\.level_embed$', r'level_embed'),
    (r'transformer\.tgt_embed\.', r'query_embedding.'),
    (r'transformer\.enc_output\.', r'memory_trans_fc.'),
    (r'transformer\.enc_output_norm\.', r'memory_trans_norm.'),
    (r'transformer\.enc_out_class_embed\.', rf'bbox_head.cls_branches.{_NUM_LAYERS}.'),
    (r'(?:transformer\.decoder\.)?class_embed\.(\d)\.', r'bbox_head.cls_branches.\1.'),
    (r'label_enc\.', r'dn_query_generator.label_embedding.'),
)
#: The same for the layers 0, 1, 2 of a box head, which are 0, 2, 4 of mmdet's.
_BOX_TABLE: tuple[tuple[str, str], ...] = (
    (r'transformer\.enc_out_bbox_embed\.layers\.', rf'bbox_head.reg_branches.{_NUM_LAYERS}.'),
    (r'(?:transformer\.decoder\.)?bbox_embed\.(\d)\.layers\.', r'bbox_head.reg_branches.\1.'),
)


def convert_checkpoint(source: str | Path, target: str | Path, *, half: bool = False) -> LoadReport:
    """Write the released DINO whole, for mmdet's DINO; any other file as the package does.

    Args:
        source: path or URL.
        target: a ``.safetensors`` or ``.pth`` file.
        half: only for a backbone.

    Raises:
        CheckpointError: see :func:`fastervit_backbone.checkpoint.convert_checkpoint`.
    """
    refuse_same_file(source, target)
    content = read_checkpoint(source)
    tensors = unwrap_state_dict(content)
    if not is_released_dino(tensors):
        return convert_content(content, source, target, half)
    if half:
        raise CheckpointError(f'{source} is a whole detector: --half is for a backbone alone')
    tensors, report = convert_released_dino(tensors, str(source))
    write_state_dict(tensors, target, {'source': Path(source).name, 'license': LICENSE})
    return report


def convert_released_dino(tensors: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], LoadReport]:
    """Rename the tensors to those of mmdet's DINO in ``configs/dino_fastervit4_21k_224_12e.py``.

    Args:
        tensors: state dict of the released file, without ``module.``.
        name: of the file, in errors and the report.

    Returns:
        the state dict and what happened to every tensor.

    Raises:
        CheckpointError: a tensor is not known or has another shape, or one is missing in the backbone.
    """
    backbone, report = _convert_backbone(tensors, name)
    converted, unknown = {f'backbone.{key}': value for key, value in backbone.items()}, []
    for key, value in tensors.items():
        if key.startswith('backbone.0.'):
            continue
        our_key = _rename_box_layer(key) or rename(key, _TABLE)
        if our_key is None:
            unknown.append(key)
            continue
        ours = _spread_frequencies(our_key, _of_80_classes(our_key, value, name))
        if our_key in converted and not torch.equal(converted[our_key], ours):
            raise CheckpointError(f'{name}: {key} and its alias are one tensor but hold different values')
        converted[our_key] = ours
    if unknown:
        more = '' if len(unknown) == 1 else f' and {len(unknown) - 1} more'
        raise CheckpointError(f'{name}: {unknown[0]}{more}: unexpected in the released DINO')
    return converted, LoadReport(
        source=name,
        arch=f'{ARCH} in DINO',
        loaded=tuple(converted),
        rebuilt=tuple(f'backbone.0.{key}' for key in report.rebuilt),
        dropped=tuple(f'backbone.0.{key}' for key in report.dropped),
        fresh=(),
        note=f'91 classes -> 80; license: {LICENSE}',
    )


def _convert_backbone(tensors: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], LoadReport]:
    inside = {k.removeprefix('backbone.0.'): v for k, v in tensors.items() if k.startswith('backbone.0.')}
    norms = {k: v for k, v in inside.items() if re.match(r'norm[123]\.', k)}
    file = read_tensors({k: v for k, v in inside.items() if k not in norms}, name)
    file.declared = Declared(ARCHS[ARCH])
    file.tensors = fold_positions(file.tensors)
    file.tensors |= {f'out_norms.{k.removeprefix("norm")}': v for k, v in norms.items()}
    with torch.device('meta'):
        net = FasterViT(ARCH, out_norm='bn', out_indices=(1, 2, 3))
    return place_tensors(net, file)


def fold_positions(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Change the absolute positions' first layer from the detector's coordinates to ours.

    For a token i of a side of w it has (i - N//2) / (N//2), N = w*w, where the classifiers have
    (i - w//2) / (w//2). The layer is linear, so that scale and shift go into its weight and bias. Exact for
    windows of one size without carriers.

    Args:
        tensors: of the backbone, under our names.
    """
    folded = dict(tensors)
    for key, weight in tensors.items():
        match = re.fullmatch(r'stages\.(\d)\.blocks\.\d+\.position\.fc1\.weight', key)
        if match is None:
            continue
        side = ARCHS[ARCH].window_sizes[int(match[1])]
        half, half_of_all = side // 2, side * side // 2
        bias = key.removesuffix('weight') + 'bias'
        folded[bias] = tensors[bias] + (half - half_of_all) / half_of_all * weight.sum(1)
        folded[key] = weight * (half / half_of_all)
    return folded


def _rename_box_layer(key: str) -> str | None:
    """Return the name in mmdet's DINO of a tensor of a box head; None for any other."""
    renamed = rename(key, _BOX_TABLE)
    if renamed is None:
        return None
    branch, layer, kind = renamed.rsplit('.', 2)
    return f'{branch}.{2 * int(layer)}.{kind}'


def _spread_frequencies(key: str, value: Tensor) -> Tensor:
    """Give the layer that reads an encoded box inputs for twice as many frequencies, with weight 0.

    The detector encodes y, x, w and h with 64 frequencies each, sine and cosine; mmdet's decoder (onedl 3.5)
    with 128, of which every second one is the detector's.
    """
    if key != 'decoder.ref_point_head.layers.0.weight':
        return value
    pairs = value.unflatten(1, (-1, 1, 2))
    return torch.cat([pairs, torch.zeros_like(pairs)], 2).flatten(1)


def _of_80_classes(key: str, value: Tensor, name: str) -> Tensor:
    """Return the rows of the categories in use, of a tensor that has one per class."""
    rows = {'bbox_head.cls_branches': 91, 'dn_query_generator.label_embedding': 92}
    for prefix, expected in rows.items():
        if key.startswith(prefix):
            if len(value) != expected:
                raise CheckpointError(f'{name}: {key} has {len(value)} rows, expected {expected}')
            return value[_USED_IDS]
    return value
