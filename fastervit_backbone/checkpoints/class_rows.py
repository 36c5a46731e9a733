"""Meet the classes of a checkpoint with those of the data, by name."""

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from ..utils.errors import UserError

#: Name of a tensor -> how many rows it has for C classes; such of another length are none of the classes.
#: 'background': C + 1; 'boxes': 4 C; 'maybe one more': C or C + 1; 'anchors': A C, A from the boxes beside.
_LAYOUTS = {
    r'bbox_head(\.\d+)?\.fc_cls\.(weight|bias)': 'background',
    r'bbox_head(\.\d+)?\.fc_reg\.(weight|bias)': 'boxes',
    r'mask_head(\.\d+)?\.conv_logits\.(weight|bias)': 'classes',
    r'bbox_head\.retina_cls\.(weight|bias)': 'anchors',
    r'bbox_head\.(rtm_cls(\.\d+)?|conv_cls|atss_cls|gfl_cls|vfnet_cls)\.(weight|bias)': 'classes',
    r'cls_branches\.\d+\.(weight|bias)': 'classes',
    r'label_embedding\.weight': 'maybe one more',
    r'(panoptic_head|decode_head)\.cls_embed\.(weight|bias)': 'background',
    r'(decode_head|auxiliary_head)(\.\d+)?\.conv_seg\.(weight|bias)': 'classes',
    r'(^|\.)head\.fc\.(weight|bias)': 'classes',
}
#: Other tensors of heads that may have rows or columns for classes: with them nothing is known.
_UNKNOWN = re.compile(
    r'(bbox_head|roi_head|panoptic_head|decode_head|auxiliary_head|mask_head)\b.*'
    r'(fc_seg|fc_logits|fc_mask_iou|conv_cls|multi_level_conv_cls|cls_score|tood_cls|heatmap|cls_emb\b|convs_pred|'
    r'_cls\b|fc_cls|retina_cls|conv_logits|conv_seg|fc_reg)'
)


def meet_classes(
    weights: Mapping[str, Tensor],
    names: Sequence[str] | None,
    wanted: Sequence[str] | None,
    source: str,
    *,
    fresh: bool,
) -> tuple[dict[str, Tensor], str | None]:
    """Order the rows of the heads as the data orders its classes.

    Args:
        weights: of a detector, segmenter or classifier.
        names: the classes of the weights, in the order of the rows; None: the file does not say.
        wanted: the classes of the data; None: unknown.
        source: name of the file in messages.
        fresh: leave out the rows of other classes, for a head that starts anew; else they are an error.

    Returns:
        the weights, and one line on what was done, or None.

    Raises:
        UserError: other classes, as many, or rows that cannot be told apart, and not ``fresh``.
    """
    weights = dict(weights)
    if not wanted or (names is not None and (list(names) == list(wanted) or len(names) != len(wanted))):
        return weights, None
    count = len(wanted)
    rows, unknown = _rows(weights, count)
    if names is None:
        said = f'{source} does not name its classes: they are taken as those of the data, in their order'
        return weights, said if rows else None
    names, wanted = list(names), list(wanted)
    same = set(names) == set(wanted) and len(set(names)) == count
    if same and rows and not unknown:
        order = torch.tensor([names.index(name) for name in wanted])
        for key, layout in rows.items():
            weights[key] = _reordered(weights[key], order, 4 if layout == 'boxes' else 1)
        return weights, f'{source} has the classes of the data in another order: its rows are ordered by name'
    what = 'the classes of the data in another order' if same else 'other classes than the data'
    said = f'{source} has {what} ({first_difference(names, wanted)})'
    if not fresh:
        why = f', and the rows of {unknown[0]} cannot be ordered' if same and unknown else ''
        raise UserError(f'{said}{why}: use data with its classes, or fine-tune it')
    if not rows and not unknown:
        return weights, f'{said}, and no head whose rows are known: it is kept as it is'
    kept = {key: value for key, value in weights.items() if key not in rows and key not in unknown}
    return kept, f'{said}: its heads start anew'


def first_difference(names: Sequence[str], wanted: Sequence[str]) -> str:
    """Describe the first place where two lists of classes differ, as ``'cat' instead of 'dog'``."""
    for name, other in zip_longest(names, wanted):
        if name != other:
            return f'{name!r} instead of {other!r}'
    return 'no difference'


def _rows(weights: Mapping[str, Tensor], count: int) -> tuple[dict[str, str], list[str]]:
    """Return name -> layout of the tensors with rows for the classes, and names that are not understood."""
    rows, unknown = {}, []
    for key, value in weights.items():
        layout = next((layout for name, layout in _LAYOUTS.items() if re.search(f'{name}$', key)), None)
        length = len(value) if value.ndim else 0
        if layout is not None and _has_rows(weights, key, layout, length, count):
            rows[key] = layout
        elif _UNKNOWN.search(key) and not _is_agnostic(layout, length):
            unknown.append(key)
    return rows, unknown


def _has_rows(weights: Mapping[str, Tensor], key: str, layout: str, length: int, count: int) -> bool:
    match layout:
        case 'background':
            return length == count + 1
        case 'boxes':
            return length == 4 * count and count > 1
        case 'maybe one more':
            return length in (count, count + 1)
        case 'anchors':
            boxes = weights.get(key.replace('_cls.', '_reg.'))
            return boxes is not None and length == len(boxes) // 4 * count
    return length == count


def _is_agnostic(layout: str | None, length: int) -> bool:
    """Whether a tensor is the same for all classes: boxes or masks of any class."""
    return (layout == 'boxes' and length == 4) or (layout == 'classes' and length == 1)


def _reordered(tensor: Tensor, order: Tensor, size: int) -> Tensor:
    """Order the rows of a tensor: anchors x classes x ``size``, and rows after the classes stay."""
    count = len(order)
    extra = len(tensor) == count + 1 and size == 1
    inner, rest = (tensor[:count], tensor[count:]) if extra else (tensor, tensor[:0])
    blocks = inner.reshape(-1, count, size, *tensor.shape[1:])[:, order]
    return torch.cat((blocks.reshape(inner.shape), rest))
