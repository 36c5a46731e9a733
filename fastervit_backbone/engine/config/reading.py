"""Read data sets and classes from a config."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...datasets.class_folders import resolve_classes
from ...datasets.class_names import read_class_names
from ...datasets.download_hints import HOW_TO_GET_IMAGENET
from ...datasets.imagenet import SYNSETS, synsets
from ...datasets.pixel_format import PixelFormat
from ...utils.errors import UserError
from .lookup import find_class


def as_list(part: object) -> list:
    """Return a config's list, its single dict as a list, or an empty list for None."""
    if part is None:
        return []
    return list(part) if isinstance(part, list | tuple) else [part]


def leaf_datasets(dataset: Mapping) -> Iterator[Mapping]:
    """Yield the data sets inside wrappers (repeat, concat, class-balanced, multi-image mix)."""
    inner = dataset.get('dataset', dataset.get('datasets'))
    if inner is None:
        yield dataset
    else:
        for child in as_list(inner):
            yield from leaf_datasets(child)


def pixel_format(pipeline: object) -> PixelFormat:
    """Return how the ``LoadImageFromFile`` of a pipeline reads images.

    Raises:
        UserError: its options exclude each other.
    """
    steps = (step for step in as_list(pipeline) if isinstance(step, Mapping))
    names = ((str(getattr(s.get('type'), '__name__', s.get('type'))), s) for s in steps)
    loading = next((step for name, step in names if name.endswith('LoadImageFromFile')), {})
    try:
        return PixelFormat.of(loading)
    except ValueError as error:
        raise UserError(f'LoadImageFromFile: {error}') from error


def is_semantic(dataset: Mapping) -> bool:
    """Return whether a data set's config reads label maps."""
    return is_a(dataset, 'BaseSegDataset')


def is_panoptic(dataset: Mapping) -> bool:
    """Return whether a data set's config reads COCO's panoptic files."""
    return is_a(dataset, 'CocoPanopticDataset')


def is_image_folder(dataset: Mapping) -> bool:
    """Return whether a data set's config reads one folder of images per class."""
    return is_a(dataset, 'ImageFolderDataset')


def image_root(dataset: Mapping) -> Path:
    """Return the folder of an image folder's class folders."""
    return Path(dataset.get('data_root') or '') / (dataset.get('data_prefix') or '')


def folder_classes(dataset: Mapping) -> tuple[list[str], list[str]]:
    """Return the class folders of an image folder, and the names of the classes.

    Raises:
        UserError: they do not fit (:func:`~fastervit_backbone.datasets.class_folders.resolve_classes`).
    """
    names = (dataset.get('metainfo') or {}).get('classes')
    root = image_root(dataset)
    folders = dataset.get('folders')
    if not root.is_dir() and isinstance(folders, str):
        raise UserError(f'no folder at {os.path.abspath(root)}: {HOW_TO_GET_IMAGENET}')
    return resolve_classes(root, folders, names, subset=dataset.get('subset', False))


def classes_of(dataset: Mapping) -> list[str] | None:
    """Return the class names: the config's, else those of the data set class.

    Raises:
        UserError: they are neither a list of names nor a file of names.
    """
    classes = (dataset.get('metainfo') or {}).get('classes')
    if is_image_folder(dataset):
        return _classes_of_folders(dataset)
    if classes is None:
        classes = getattr(find_class(dataset['type']), 'METAINFO', {}).get('classes')
    if isinstance(classes, str):  # mmengine also takes a file with one name per line
        if not Path(classes).is_file():
            raise UserError(
                f'metainfo.classes={classes!r} names no file: give a list of names, or a file with one name '
                'per line'
            )
        return read_class_names(classes)
    if classes is not None and not (
        isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes)
    ):
        raise UserError(
            f'metainfo.classes={classes!r} is not a list of names: give one, ("sky", "road"), or a file with '
            'one name per line'
        )
    return None if classes is None else list(classes)


def _classes_of_folders(dataset: Mapping) -> list[str] | None:
    """Return the classes of an image folder; where it does not exist, those that the config names."""
    if image_root(dataset).is_dir():
        return folder_classes(dataset)[1]
    classes, folders = (dataset.get('metainfo') or {}).get('classes'), dataset.get('folders')
    if classes is None and isinstance(folders, str) and folders in SYNSETS:
        return list(synsets(folders).values())
    return list(classes or folders or ()) or None


def is_a(dataset: Mapping, base: str) -> bool:
    """Compare by name, so that a detector's run does not import mmseg."""
    dataset_class = find_class(dataset['type'])
    return dataset_class is not None and any(c.__name__ == base for c in dataset_class.__mro__)
