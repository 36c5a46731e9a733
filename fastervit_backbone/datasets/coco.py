"""COCO jsons."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..utils.errors import UserError
from ..utils.files import is_file, read_json
from .splits import SPLITS, split_name

NAME = 'COCO jsons'


def find(place: Path) -> tuple[dict[str, tuple[Path, dict]], list[Path]]:
    """Return the jsons of a folder, split -> (json, content), and the jsons that were passed over.

    They are ``annotations/*.json``, in the folder itself, or one beside each split's images as Roboflow
    exports them. Beside ``instances_train.json``, others of that split (keypoints, captions, panoptic) and of
    none describe the same images.
    """
    patterns = ('*.json', 'annotations/*.json', '*/_annotations.coco.json', '*/annotations.json')
    candidates = sorted({path for pattern in patterns for path in place.glob(pattern) if path.name[0] != '.'})
    instances = {split_name(path.stem) for path in candidates if path.stem.startswith('instances_')}
    passed = {'', *instances} if instances else set()
    chosen = [p for p in candidates if p.stem.startswith('instances_') or split_name(p.stem) not in passed]
    skipped = [path for path in candidates if path not in chosen]
    found: dict[str, tuple[Path, dict]] = {}
    for path in chosen:
        try:
            content = read_coco(path)
        except UserError as error:
            # one of another kind is passed over, and so is a broken one, unless it is a split
            if (split_name(path.stem) or path.stem.startswith(('instances_', '_ann'))) and is_broken(path):
                raise error
            skipped.append(path)
            continue
        own_folder = path.parent not in (place, place / 'annotations')  # Roboflow: one folder per split
        name = split_name(path.stem) or (own_folder and (split_name(path.parent.name) or path.parent.name))
        name = name or path.stem
        found[name if name not in found else path.relative_to(place).as_posix()] = (path, content)
    order = [*SPLITS, *found]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]))), skipped


def is_broken(path: Path) -> bool:
    """Whether a file is no valid JSON."""
    try:
        read_json(path, '')
    except UserError:
        return True
    return False


def image_folder(path: Path, content: Mapping) -> Path:
    """Return the folder of a json's images: the nearest that has its first image.

    Raises:
        UserError: none is near.
    """
    entries = content['images']
    names = (e['file_name'] for e in entries if isinstance(e, dict) and isinstance(e.get('file_name'), str))
    first = next(names, None)
    if first is None:
        return path.parent  # the rules say what is wrong
    roots = (path.parent, path.parent.parent)
    folders = [*SPLITS.get(split_name(path.stem), ()), path.stem]
    candidates = [root / part for root in roots for part in ('', 'images', *folders)]
    candidates += [root / 'images' / folder for root in roots for folder in folders]
    nearest = next((c for c in candidates if is_file(c / first)), None)
    if nearest is None:
        raise UserError(
            f'{path}: its first image, {first}, is not near it: name the folder of the images, --images DIR'
        )
    return nearest


def read_coco(path: Path) -> dict:
    """Read a json with COCO's three lists; ids and sizes such as 640.0 become whole numbers.

    Raises:
        UserError: broken JSON, or one without them.
    """
    return as_coco(read_json(path, 'download or write it again'), path)


def as_coco(content: object, path: Path) -> dict:
    """Return what was read from a json as COCO, in place; see :func:`read_coco`.

    Raises:
        UserError: it lacks one of the three lists.
    """
    lists = ('images', 'annotations', 'categories')
    have = content if isinstance(content, dict) else {}
    missing = [k for k in lists if not isinstance(have.get(k), list)]
    if missing:
        raise UserError(f'{path} is JSON but not COCO: it has no list {", ".join(missing)}')
    for part, keys in _WHOLE.items():
        for entry in have[part]:
            if isinstance(entry, dict):
                for key in keys:
                    value = entry.get(key)
                    if type(value) is float and value.is_integer():  # as pandas writes them
                        entry[key] = int(value)
    return have


#: List -> fields that are whole numbers.
_WHOLE = dict(
    images=('id', 'width', 'height'), annotations=('id', 'image_id', 'category_id'), categories=('id',)
)


def complete_for_evaluation(annotations: Sequence[object]) -> None:
    """Give annotations what pycocotools needs, in place: different ids from 1, and ``iscrowd``.

    pycocotools notes the id of the object that a detection matches, and 0 for none: a perfect detection of
    such an object has AP 0. It looks objects up by their ids: of two with the same one it counts one twice.
    Without ``iscrowd`` it fails.
    """
    records = [a for a in annotations if isinstance(a, dict)]
    largest = max((a['id'] for a in records if is_id(a.get('id'))), default=0)
    seen = {0}
    for annotation in records:
        if annotation.get('iscrowd') not in (0, 1):
            annotation['iscrowd'] = 0
        if is_id(annotation.get('id')) and annotation['id'] in seen:
            largest += 1
            annotation['id'] = largest
        seen.add(annotation.get('id'))


def is_id(value: object) -> bool:
    """Whether this is an integer, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether this is a number that is finite as a float, and no bool."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def are_numbers(values: Sequence) -> bool:
    """Whether all of these are finite numbers; fast for the long lists of polygons."""
    try:
        if set(map(type, values)) <= {int, float} and math.isfinite(sum(values)):
            return True
    except OverflowError:  # an integer too large for a float, or only their sum
        pass
    return all(map(is_number, values))


def is_box(value: object) -> bool:
    """Whether this is four finite numbers."""
    return isinstance(value, list | tuple) and len(value) == 4 and are_numbers(value)


def has_size(entry: Mapping) -> bool:
    """Whether width and height are whole numbers of pixels from 1; 640.0 is one."""
    sides = [entry.get('width'), entry.get('height')]
    return all(is_number(side) and side >= 1 and side == int(side) for side in sides)
