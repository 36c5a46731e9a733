"""Fit the weights of a classifier to a model with other names, or with only some of its classes."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..utils.errors import CheckpointError
from .published import read_tensors

#: Prefixes of the last norm and of the linear layer: published or timm's -> ours.
_HEAD = {'norm': 'backbone.out_norms.3', 'head': 'head.fc', 'head.fc': 'head.fc'}
_WEIGHT, _BIAS = 'head.fc.weight', 'head.fc.bias'


def to_classifier(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published classifier, or one of our timm models, to the names of an mmpretrain classifier.

    Anything else is returned as it is.

    Raises:
        CheckpointError: a classifier with tensors that do not belong to a FasterViT.
    """
    has_head = 'norm.weight' in tensors and bool({'head.weight', 'head.fc.weight'} & tensors.keys())
    if not has_head or any(key.startswith('backbone.') for key in tensors):
        return dict(tensors)
    trunk = {k: v for k, v in tensors.items() if k.rpartition('.')[0] not in _HEAD}
    renamed = {f'backbone.{k}': v for k, v in read_tensors(trunk).tensors.items()}
    for key, value in tensors.items():
        prefix, _, name = key.rpartition('.')
        if prefix in _HEAD:
            renamed[f'{_HEAD[prefix]}.{name}'] = value
    return renamed


def select_classes(
    tensors: Mapping[str, Tensor], names: Sequence[str], wanted: Sequence[str], source: str
) -> dict[str, Tensor]:
    """Keep the rows of a classifier's linear layer that belong to some of its classes, in their order.

    Args:
        tensors: of an mmpretrain classifier.
        names: the classes of the rows.
        wanted: names of the classes to keep.
        source: name of the file in errors.

    Raises:
        CheckpointError: a wanted class is none of the classifier's.
    """
    rows = {name: i for i, name in enumerate(names)}
    unknown = [name for name in wanted if name not in rows]
    if unknown:
        raise CheckpointError(
            f'{source} has {len(names)} classes, and {unknown[0]!r} of the data is none of them '
            f'({len(unknown)} are not): evaluate on data of its classes, or finetune it'
        )
    indices = [rows[name] for name in wanted]
    return {k: v[indices] if k in (_WEIGHT, _BIAS) else v for k, v in tensors.items()}


def number_of_classes(tensors: Mapping[str, Tensor]) -> int | None:
    """Return the rows of an mmpretrain classifier's linear layer; None without one."""
    return len(tensors[_WEIGHT]) if _WEIGHT in tensors else None
