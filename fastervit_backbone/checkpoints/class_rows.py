"""Meet the classes of a checkpoint with those of the data, by name."""

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from ..utils.errors import UserError

#: Ends of the names of tensors with a row for each class; (pattern, values of a class that lie together).
_ROWS = (
    (re.compile(r'(^|\.)bbox_head(\.\d+)?\.fc_reg\.(weight|bias)$'), 4),
    (
        re.compile(
            r'(^|\.)(fc_cls|conv_logits|retina_cls|rtm_cls(\.\d+)?|conv_cls|atss_cls|gfl_cls|vfnet_cls|rpn_cls_'
            r'|cls_branches\.\d+|cls_embed|conv_seg|head\.fc)\.(weight|bias)$|(^|\.)label_embedding\.weight$'
        ),
        1,
    ),
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
        UserError: the classes are others, as many, and not ``fresh``.
    """
    weights = dict(weights)
    if not wanted:
        return weights, None
    count = len(wanted)
    rows = {key: size for key, size in _class_tensors(weights, count)}
    if names is None:
        said = (
            f'{source} does not name its classes: they are taken as the {count} of the data, in their order'
        )
        return weights, said if rows else None
    names, wanted = list(names), list(wanted)
    if names == wanted or len(names) != count or not rows:
        return weights, None
    if set(names) != set(wanted) or len(set(names)) < count:
        said = f'{source} has other classes than the data ({first_difference(names, wanted)})'
        if not fresh:
            raise UserError(f'{said}: use data with its classes, or fine-tune it')
        kept = {key: value for key, value in weights.items() if key not in rows}
        return kept, f'{said}: its heads start anew'
    order = torch.tensor([names.index(name) for name in wanted])
    for key, size in rows.items():
        weights[key] = _reordered(weights[key], order, size)
    return weights, f'{source} has the classes of the data in another order: its rows are ordered by name'


def first_difference(names: Sequence[str], wanted: Sequence[str]) -> str:
    """Describe the first place where two lists of classes differ, as ``'cat' instead of 'dog'``."""
    for name, other in zip_longest(names, wanted):
        if name != other:
            return f'{name!r} instead of {other!r}'
    return 'no difference'


def _class_tensors(weights: Mapping[str, Tensor], count: int) -> list[tuple[str, int]]:
    """Return (name, values of a class that lie together) of the tensors with rows for ``count`` classes."""
    found = []
    for key, value in weights.items():
        size = next((size for pattern, size in _ROWS if pattern.search(key)), 0)
        length = len(value) if value.ndim else 0
        if size == 4:
            is_of_classes = length == 4 * count and count > 1
        else:  # one more row, for the background, or several anchors
            is_of_classes = bool(size) and length >= count and (length == count + 1 or length % count == 0)
        if is_of_classes:
            found.append((key, size))
    return found


def _reordered(tensor: Tensor, order: Tensor, size: int) -> Tensor:
    """Order the rows of a tensor: anchors x classes x ``size``, and rows after the classes stay."""
    count = len(order)
    extra = len(tensor) == count + 1 and size == 1
    inner, rest = (tensor[:count], tensor[count:]) if extra else (tensor, tensor[:0])
    blocks = inner.reshape(-1, count, size, *tensor.shape[1:])[:, order]
    return torch.cat((blocks.reshape(inner.shape), rest))
