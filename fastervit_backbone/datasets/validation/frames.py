"""Move annotations into the frame of their image file, whose size the json does not state."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from ..coco import are_numbers, has_size
from .coco_masks import polygon_violation
from .image_files import ImageFile

Size = tuple[int, int]
#: A point (x, y) of a stored image -> the point in the upright one, by EXIF orientation; w, h: stored size.
_TURNS: dict[int, Callable[[float, float, float, float], tuple[float, float]]] = {
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (h - y, x),
    7: lambda x, y, w, h: (h - y, w - x),
    8: lambda x, y, w, h: (y, w - x),
}
_TURNED_MASKS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    5: np.transpose,
    6: lambda m: np.rot90(m, -1),
    7: lambda m: np.rot90(m, 2).T,
    8: np.rot90,
}
#: Pixels by which boxes may reach out of their image.
_SLACK = 2.0


def turned_before(entry: dict, annotations: Sequence[dict], file: ImageFile) -> bool | None:
    """Whether annotations of an image that EXIF turns fit only the upright one; None: they do not tell."""
    if file.size is None or file.orientation < 5 or not has_size(entry):
        return None
    old = int(entry['width']), int(entry['height'])
    if old != file.size[::-1]:
        return None
    fits = _fits(annotations, old), _fits(annotations, file.size)
    return fits[1] if fits[0] != fits[1] else None


def move_to_file(
    entry: dict, annotations: Sequence[dict], file: ImageFile, upright: bool | None = None
) -> tuple[str, bool]:
    """Give an image the size of its file, and its annotations the coordinates in it, in place.

    An image of the same shape was resized: coordinates are scaled. One that EXIF turns may be annotated as it
    is stored: coordinates are turned with it, unless boxes fit only the upright image. No other size is
    explained: nothing is changed then.

    Args:
        entry: of the image.
        annotations: of the image.
        file: what its file is.
        upright: whether other images of the data set show that they are annotated as EXIF turns them.

    Returns:
        what was done, '' for nothing, and whether the coordinates are those of the file.
    """
    assert file.size is not None
    if not has_size(entry):
        before = f'{entry.get("width")}x{entry.get("height")}'
        entry['width'], entry['height'] = file.size
        fits = _fits(annotations, file.size)
        told = '' if fits else ', in which its boxes do not fit: annotate it again'
        return f'size {before} -> {_text(file.size)}{told}', fits
    old, new = (int(entry['width']), int(entry['height'])), file.size
    if old == new:
        return '', True
    change = f'size {_text(old)} -> {_text(new)}'
    neither = f'size {_text(old)}, file {_text(new)}: its boxes fit neither: annotate it again'
    if file.orientation >= 5 and old == new[::-1]:
        if _fits(annotations, old) and not (upright and _fits(annotations, new)):
            turn, turn_mask = _TURNS[file.orientation], _TURNED_MASKS[file.orientation]
            _move(annotations, lambda x, y: turn(x, y, *old), turn_mask, 1.0)
            change += f', boxes and masks turned with it (EXIF orientation {file.orientation}): check them'
        elif _fits(annotations, new):
            change += f', in which its boxes are already (EXIF orientation {file.orientation}): check them'
        else:
            return neither, False
    elif abs(new[0] * old[1] - new[1] * old[0]) <= max(*old, *new):
        if not _fits(annotations, old):
            if not _fits(annotations, new):
                return neither, False
            entry['width'], entry['height'] = new
            return f'{change}, in which its boxes are already: check them', True
        scales = new[0] / old[0], new[1] / old[1]

        def resize(mask: np.ndarray) -> np.ndarray:
            return cv2.resize(np.ascontiguousarray(mask), new, interpolation=cv2.INTER_NEAREST)

        _move(annotations, lambda x, y: (x * scales[0], y * scales[1]), resize, scales[0] * scales[1])
        change += ', boxes and masks scaled with it'
    else:
        return f'size {_text(old)}, file {_text(new)}: neither scaled nor turned: annotate it again', False
    entry['width'], entry['height'] = new
    return change, True


def _text(size: Size) -> str:
    return f'{size[0]}x{size[1]}'


def _fits(annotations: Sequence[dict], size: Size) -> bool:
    for a in annotations:
        box = a.get('bbox')
        if isinstance(box, list) and len(box) == 4 and are_numbers(box):
            x, y, w, h = box
            if min(x, y) < -_SLACK or x + w > size[0] + _SLACK or y + h > size[1] + _SLACK:
                return False
    return True


def _move(
    annotations: Sequence[dict],
    point: Callable[[float, float], tuple[float, float]],
    mask: Callable[[np.ndarray], np.ndarray],
    area: float,
) -> None:
    for a in annotations:
        box = a.get('bbox')
        if isinstance(box, list) and len(box) == 4 and are_numbers(box):
            corners = np.array([point(box[0], box[1]), point(box[0] + box[2], box[1] + box[3])])
            low, high = corners.min(0), corners.max(0)
            a['bbox'] = [*map(float, low), *map(float, high - low)]
        if isinstance(a.get('area'), int | float):
            a['area'] = a['area'] * area
        a.update(_moved_shape(a, point, mask))
        points = a.get('keypoints')
        if isinstance(points, list) and len(points) % 3 == 0 and are_numbers(points):
            triples = zip(points[::3], points[1::3], points[2::3], strict=True)
            a['keypoints'] = [n for x, y, v in triples for n in (*(point(x, y) if v else (0, 0)), v)]


def _moved_shape(
    a: Mapping[str, Any],
    point: Callable[[float, float], tuple[float, float]],
    mask: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    shape = a.get('segmentation')
    if isinstance(shape, list):
        polygons = [
            [n for x, y in zip(p[::2], p[1::2], strict=True) for n in point(x, y)]
            if isinstance(p, list) and not polygon_violation(p)
            else p
            for p in shape
        ]
        return dict(segmentation=polygons)
    if isinstance(shape, dict):
        try:
            is_text = isinstance(shape['counts'], str)
            code = dict(shape, counts=shape['counts'].encode()) if is_text else shape
            code = code if is_text else coco_mask.frPyObjects(code, *shape['size'])
            moved = coco_mask.encode(np.asfortranarray(mask(coco_mask.decode(code)), np.uint8))
        except Exception:  # pycocotools raises anything on broken codes, which the rules report
            return {}
        return dict(segmentation=dict(size=list(moved['size']), counts=moved['counts'].decode()))
    return {}
