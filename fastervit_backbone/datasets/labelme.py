"""labelme: a json of shapes beside each image."""

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..utils.errors import UserError
from ..utils.files import is_file, read_json
from .coco import are_numbers
from .image_files import IMAGES, walk_files
from .objects import Objects
from .rules import COCO_RULES, Violation
from .splits import SPLITS, split_of
from .validation.coco import CocoSplit

NAME = 'labelme'
#: Jsons that are looked at, before others are taken for those of another tool.
_TRIED = 20
#: Corners of the polygon that stands for a circle.
_CORNERS = 64
#: labelme's own words for "nothing is here".
_NO_CLASS = ('__ignore__', '_background_')
#: Shape -> its least number of points.
_SHAPES = dict(polygon=3, rectangle=2, circle=2, mask=2)


def is_labelme(content: object) -> bool:
    """Whether this is what labelme writes for an image."""
    return isinstance(content, dict) and isinstance(content.get('shapes'), list) and 'imagePath' in content


def find(place: Path) -> list[Path]:
    """Return the jsons below a folder; empty if none of the first is labelme's."""
    files = list(walk_files(place, ('.json',)))
    return files if any(map(_is_ours, files[:_TRIED])) else []


def _is_ours(path: Path) -> bool:
    try:
        return is_labelme(read_json(path, ''))
    except UserError:
        return False


def read_labelme(place: Path, files: Sequence[Path]) -> dict[str, CocoSplit]:
    """Read labelme's jsons; folders called ``train``, ``val``, ``test`` and the like are splits.

    Polygons, circles and masks have masks, rectangles have boxes only; shapes of one ``group_id`` and class
    are one object. Points and lines are left out.

    Args:
        place: the folder of the data set.
        files: its jsons; those of something else are a note.

    Returns:
        split -> COCO; category ids from 1, in the order of the names.

    Raises:
        UserError: a json that is broken, or a shape that is not what it says.
    """
    read = {path: _read(path) for path in files}
    contents = {path: content for path, content in read.items() if content is not None}
    names = sorted(
        {_label(path, shape) for path, c in contents.items() for shape in c['shapes']} - {*_NO_CLASS}
    )
    numbers = {name: i for i, name in enumerate(names, start=1)}
    parts: dict[str, list[Path]] = {}
    for path in contents:
        parts.setdefault(split_of(path.relative_to(place).parts[:-1]) or 'data', []).append(path)
    splits = {}
    for split in (name for name in (*SPLITS, 'data') if name in parts):
        images = {path: _image_of(path, contents[path]) for path in parts[split]}
        found: dict[Path, Path] = {}
        for path, image in images.items():
            if image is not None and found.setdefault(image, path) != path:
                raise UserError(f'{found[image]} and {path} are both of {image}: move one of them away')
        sizes = {image: size for image, path in found.items() if (size := _stated_size(contents[path]))}
        objects = Objects(list(found), {i: n for n, i in numbers.items()}, sizes, place)
        objects.violations += [
            Violation(COCO_RULES['image-missing'], f'{contents[path]["imagePath"]} of {path.name}')
            for path, image in images.items()
            if image is None
        ]
        left_out: dict[str, int] = {}
        for image, file in objects.readable():
            path = found[file]
            for label, shapes in _groups(path, contents[path]['shapes'], left_out):
                _add(objects, image, numbers[label], shapes)
        splits[split] = objects.split(split, place, NAME)
        splits[split].notes += [f'{count} shapes are {kind}: left out' for kind, count in left_out.items()]
        splits[split].notes += [
            f"{path} is not labelme's: not read" for path in files if path not in contents
        ]
        splits[split].notes += _unannotated(place, split, parts[split], found)
    return splits


def _read(path: Path) -> dict | None:
    """Read a json; None if it is of something else."""
    content = read_json(path, 'write it again')
    if not is_labelme(content):
        return None
    if not isinstance(content['imagePath'], str):
        raise UserError(f'{path}: imagePath is no text')
    return content


def _label(path: Path, shape: object) -> str:
    label = shape.get('label') if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label.strip() or not label.isprintable():
        raise UserError(f'{path}: a shape without a label')
    return label.strip()


def _image_of(path: Path, content: Mapping) -> Path | None:
    """Return the image of a json: where it says, beside it, or in a folder beside its own."""
    stated = content['imagePath'].replace('\\', '/')
    own = [path.with_suffix(suffix) for suffix in IMAGES]
    if Path(stated).stem != path.stem and any(map(is_file, own)):
        return next(filter(is_file, own))  # both were renamed after labelme
    folders = (path.parent, path.parent.parent / 'images')
    tried = [path.parent / stated, *(folder / Path(stated).name for folder in folders)]
    tried += [folder / f'{path.stem}{suffix}' for folder in folders for suffix in IMAGES]
    return next(filter(is_file, tried), None)


def _stated_size(content: Mapping) -> tuple[int, int] | None:
    width, height = content.get('imageWidth'), content.get('imageHeight')
    is_size = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return (width, height) if is_size else None


def _groups(path: Path, shapes: Sequence, left_out: dict[str, int]) -> Iterator[tuple[str, list[dict]]]:
    """Yield the class and shapes of each object."""
    groups: dict[tuple, list[dict]] = {}
    for i, shape in enumerate(shapes):
        label, kind = _label(path, shape), str(shape.get('shape_type') or 'polygon')
        if label in _NO_CLASS or kind not in _SHAPES:
            what = label if label in _NO_CLASS else kind
            left_out[what] = left_out.get(what, 0) + 1
            continue
        points = shape.get('points')
        is_list = isinstance(points, list) and all(isinstance(p, list) and len(p) == 2 for p in points)
        if not is_list or len(points) < _SHAPES[kind] or not are_numbers([v for p in points for v in p]):
            raise UserError(
                f'{path}: shape {i} ({label}) is a {kind} without {_SHAPES[kind]} points of two numbers'
            )
        group = shape.get('group_id')
        key = (label, i, None) if group is None else (label, None, str(group))
        groups.setdefault(key, []).append(dict(shape, shape_type=kind, where=f'{path}: shape {i}'))
    for (label, *_), members in groups.items():
        yield label, members


def _add(objects: Objects, image: Mapping, category: int, shapes: Sequence[dict]) -> None:
    kinds = {shape['shape_type'] for shape in shapes}
    if 'mask' in kinds:
        mask = np.zeros((image['height'], image['width']), np.uint8)
        for shape in shapes:
            _paint(mask, shape)
        code = coco_mask.encode(np.asfortranarray(mask))
        code['counts'] = code['counts'].decode()
        objects.add_mask(image, category, code, coco_mask.toBbox(code).tolist(), float(mask.sum()))
    elif kinds == {'rectangle'}:
        corners = np.array([point for shape in shapes for point in shape['points']], float)
        low, high = corners.min(0), corners.max(0)
        objects.add_box(image, category, [*low.tolist(), *(high - low).tolist()])
    else:
        objects.add_polygons(image, category, [_polygon(shape) for shape in shapes])


def _polygon(shape: Mapping) -> list[float]:
    """Return x y x y ... of a polygon, a rectangle, or a circle given by its center and a point on it."""
    points, kind = shape['points'], shape['shape_type']
    if kind == 'rectangle':
        (x1, y1), (x2, y2) = map(min, zip(*points, strict=True)), map(max, zip(*points, strict=True))
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == 'circle':
        (x, y), (x2, y2) = points[:2]
        radius = math.hypot(x2 - x, y2 - y)
        angles = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
        return [v for a in angles for v in (x + radius * math.cos(a), y + radius * math.sin(a))]
    return [float(value) for point in points for value in point]


def _paint(mask: np.ndarray, shape: Mapping) -> None:
    """Draw a shape into a mask (H, W), in place."""
    if shape['shape_type'] != 'mask':
        code = coco_mask.merge(coco_mask.frPyObjects([_polygon(shape)], *mask.shape))
        mask |= coco_mask.decode(code)
        return
    try:
        part = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape['mask'], validate=True)))) > 0
    except Exception as error:  # whatever is in the text
        raise UserError(f'{shape["where"]} has a mask that is no PNG in base64') from error
    x, y = (int(v) for v in shape['points'][0])
    top, left = max(0, y), max(0, x)
    height, width = max(0, mask.shape[0] - top), max(0, mask.shape[1] - left)
    part = part[top - y : top - y + height, left - x : left - x + width]
    if part.ndim != 2:
        raise UserError(f'{shape["where"]} has a mask of several channels')
    mask[top : top + part.shape[0], left : left + part.shape[1]] |= part


def _unannotated(place: Path, split: str, files: Sequence[Path], found: Mapping[Path, Path]) -> list[str]:
    known = {image.resolve() for image in found}
    folders = {image.parent for image in found}
    others = [p for folder in folders for p in walk_files(folder, IMAGES) if p.resolve() not in known]
    own = [p for p in others if (split_of(p.relative_to(place).parts[:-1]) or 'data') == split]
    if not own:
        return []
    return [f'{len(own)} images have no json, such as {own[0].name}: not used']


def describe(path: Path) -> str:
    """Say of one json what to do with it."""
    return f"{path} is labelme's json of one image: name its folder, {path.parent}"
