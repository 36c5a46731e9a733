"""COCO's panoptic files: a PNG of segment ids for each image, and a json that names their classes."""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..utils.errors import UserError
from .coco import is_id, read_coco
from .image_headers import open_image

#: Keys that mmdet and the metric read.
_IMAGE = {'id', 'file_name', 'height', 'width'}
_SEGMENT = {'id', 'category_id', 'area', 'bbox'}
#: PNGs that are opened before a run, evenly spread.
_OPENED = 200


def read_ids(path: str | Path) -> np.ndarray:
    """Read the segment ids (H, W), int64, of a PNG: ``R + 256 * G + 256**2 * B``.

    Raises:
        UserError: not there, or no color image.
    """
    with open_image(path) as image:
        if image.mode not in ('RGB', 'RGBA'):
            raise UserError(
                f'{path} is a {image.mode} image: panoptic segments are ids in the colors of an RGB PNG'
            )
        return as_ids(np.asarray(image.convert('RGB')))


def as_ids(pixels: np.ndarray) -> np.ndarray:
    """Pixels of a PNG (H, W, 3), RGB -> segment ids (H, W), int64."""
    return pixels.astype(np.int64) @ np.array([1, 256, 256**2])


def as_pixels(ids: np.ndarray) -> np.ndarray:
    """Segment ids (H, W) -> the pixels of their PNG (H, W, 3), uint8, RGB."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 256**2], -1).astype(np.uint8)


def stand_in_for_panopticapi() -> None:
    """Let mmdet's LoadPanopticAnnotations find its part of panopticapi, which no package registry has."""
    if find_spec('panopticapi') is None:
        package, utils = ModuleType('panopticapi'), ModuleType('panopticapi.utils')
        for module in (package, utils):
            module.__spec__ = ModuleSpec(module.__name__, None)
        utils.rgb2id, utils.id2rgb, package.utils = as_ids, as_pixels, utils  # type: ignore[attr-defined]
        sys.modules |= {'panopticapi': package, 'panopticapi.utils': utils}


def check_panoptic(
    ann_file: str | Path,
    segments_dir: str | Path,
    image_dir: str | Path,
    classes: Sequence[str] | None,
    things: Sequence[str] | None,
    remedy: str,
) -> None:
    """Check that a panoptic json, its PNGs and images exist and belong together.

    Args:
        ann_file: COCO's panoptic json.
        segments_dir: folder of the PNGs.
        image_dir: folder of the images.
        classes: names in the order of the model's outputs, things first.
        things: those of them that are objects.
        remedy: what to do when a file is missing.

    Raises:
        UserError: one line with the place, the value and what to do.
    """
    ann_file = Path(os.path.abspath(ann_file))
    for path, what in ((ann_file, 'annotations'), (segments_dir, 'folder'), (image_dir, 'image folder')):
        if not Path(path).exists():
            raise UserError(f'no {what} at {os.path.abspath(path)}: {remedy}')
    content = read_coco(ann_file)
    _check_categories(content['categories'], ann_file, classes, things)
    images = _check_images(content['images'], ann_file, Path(image_dir), remedy)
    annotations = content['annotations']
    _check_segments(annotations, images, {c['id'] for c in content['categories']}, ann_file)
    for annotation in annotations[:: max(1, len(annotations) // _OPENED)]:
        _check_png(annotation, images[annotation['image_id']], Path(segments_dir), ann_file)


def _check_images(
    images_of_file: Sequence[Any], ann_file: Path, image_dir: Path, remedy: str
) -> dict[Any, Mapping]:
    """Return id -> image."""
    for number, image in enumerate(images_of_file):
        if not isinstance(image, Mapping) or not _IMAGE <= image.keys():
            raise UserError(f'{ann_file}: images[{number}] needs {", ".join(sorted(_IMAGE))}')
    images = {image['id']: image for image in images_of_file}
    for image in images.values():
        if not (Path(image_dir) / image['file_name']).is_file():
            raise UserError(
                f'{ann_file}: {image["file_name"]} is not in {os.path.abspath(image_dir)}: {remedy}'
            )
    return images


def _check_segments(
    annotations: Sequence[Any], images: Mapping[Any, Mapping], known: set, ann_file: Path
) -> None:
    for number, annotation in enumerate(annotations):
        place = f'{ann_file}: annotations[{number}]'
        segments = annotation.get('segments_info') if isinstance(annotation, Mapping) else None
        if not isinstance(segments, list):
            raise UserError(f'{place} has no list segments_info: is this a panoptic json, not instances_*?')
        if not isinstance(annotation.get('file_name'), str):
            raise UserError(f'{place} has no file_name, the PNG of its segments')
        if annotation.get('image_id') not in images:
            raise UserError(f'{place} is of image {annotation.get("image_id")}, which is not in images')
        for segment in segments:
            if not isinstance(segment, Mapping) or not _SEGMENT <= segment.keys():
                raise UserError(f'{place}: a segment needs {", ".join(sorted(_SEGMENT))}')
            if segment.get('category_id') not in known:
                raise UserError(
                    f'{place}: segment {segment.get("id")} has category {segment.get("category_id")}, which '
                    'is not in categories'
                )
        ids = [segment.get('id') for segment in segments]
        if len(set(ids)) < len(ids) or not all(is_id(i) and i > 0 for i in ids):
            raise UserError(f'{place}: its segments need different ids above 0, as in the colors of its PNG')
    without = images.keys() - {annotation['image_id'] for annotation in annotations}
    if without:
        raise UserError(f'{ann_file}: image {min(without)} has no annotation: remove it, or add its segments')


def _check_categories(
    categories: Sequence[Any], ann_file: Path, classes: Sequence[str] | None, things: Sequence[str] | None
) -> None:
    for number, category in enumerate(categories):
        if not isinstance(category, Mapping) or not {'id', 'name', 'isthing'} <= category.keys():
            raise UserError(f'{ann_file}: categories[{number}] needs id, name and isthing (1 or 0)')
    names = [c['name'] for c in categories]
    for name in classes or ():
        if name not in names:
            raise UserError(
                f'{ann_file} has no category {name!r}, a class of metainfo: {", ".join(names)[:200]}'
            )
    others = [name for name in names if classes is not None and name not in classes]
    if others:
        raise UserError(
            f'{ann_file} has the category {others[0]!r}, which metainfo.classes lacks, and mmdet reads all '
            'classes or none: name all of them'
        )
    used = [c for c in categories if classes is None or c['name'] in classes]
    # mmdet numbers the classes in the order of the file, and its heads count things first
    if classes is not None and [c['name'] for c in used] != list(classes):
        raise UserError(
            f'{ann_file}: its categories are in another order than metainfo.classes, '
            'and mmdet takes the order of the file: give metainfo.classes that order'
        )
    is_thing = [bool(c['isthing']) for c in used]
    if is_thing != sorted(is_thing, reverse=True):
        raise UserError(f'{ann_file}: its categories are not in order: objects (isthing 1) first, then stuff')
    if things is not None and [c['name'] for c in used if c['isthing']] != list(things):
        raise UserError(f'{ann_file}: isthing of its categories and metainfo.thing_classes do not agree')


def _check_png(annotation: Mapping, image: Mapping, folder: Path, ann_file: Path) -> None:
    # mmdet looks for the name of the image, the metric for that of the annotation
    path = folder / str(image['file_name']).replace('.jpg', '.png')
    if path.name != Path(annotation['file_name']).name:
        raise UserError(
            f'{ann_file}: the segments of {image["file_name"]} are in {annotation["file_name"]}, and mmdet '
            f'looks for {path.name}: rename it'
        )
    ids = read_ids(path)
    if ids.shape != (image['height'], image['width']):
        raise UserError(f'{path} has {ids.shape[1]}x{ids.shape[0]} pixels, {ann_file} says another size')
    named = {segment['id'] for segment in annotation['segments_info']}
    absent = sorted(named - set(np.unique(ids).tolist()))
    if absent:
        raise UserError(f'{path} has no pixel of segment {absent[0]}, which {ann_file} names')
