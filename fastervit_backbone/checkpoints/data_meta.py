"""What a checkpoint says of the data that it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..utils.errors import CheckpointError
from .io import plain


def data_meta(content: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """Return what a checkpoint says of the data it was trained on, as plain data; {} if it says nothing.

    Args:
        content: of :func:`read_checkpoint`.
        source: name of the file in errors.

    Returns:
        mmengine's ``dataset_meta``: ``classes``, names in the order of the outputs; ``category_ids``, their
        ids; ``palette``, ``reduce_zero_label`` and others.

    Raises:
        CheckpointError: classes that are no list of names, or ids that are not one integer for each.
    """
    meta = content.get('meta')
    found: object = meta if meta is not None else {}
    if isinstance(found, Mapping):
        found = found.get('dataset_meta')
        found = {} if found is None else plain(found)
        if isinstance(found, list) and found:  # mmdet's ConcatDataset, whose parts differ in other things
            found = found[0]
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f'{source}: its metadata has {str(found)[:60]!r} instead of a dict: write it again'
        )
    classes, ids = found.get('classes'), found.get('category_ids')
    if classes is not None and not (
        isinstance(classes, list | tuple) and all(isinstance(name, str) and name for name in classes)
    ):
        raise CheckpointError(f'{source}: its classes are {str(classes)[:60]!r}: expected a list of names')
    if ids is not None:
        is_integer = isinstance(ids, list | tuple) and all(type(i) is int for i in ids)
        if not is_integer or len(set(ids)) < len(ids) or len(ids) != len(classes or ()):
            raise CheckpointError(
                f'{source}: its category_ids are {str(ids)[:60]}: expected a different integer for each class'
            )
    return dict(found)
