"""What can be wrong with a COCO data set, said before anything is built."""

import difflib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..utils.errors import UserError

_NUMBER, _ID = ((int, float), 'a number'), ((int, str), 'a whole number or a text')
_FIELDS = {
    'images': {'id': _ID, 'file_name': (str, 'a text'), 'width': _NUMBER, 'height': _NUMBER},
    'categories': {'id': _ID, 'name': (str, 'a text')},
    'annotations': {
        'id': _ID,
        'image_id': _ID,
        'category_id': _ID,
        'bbox': (list, '[x, y, width, height] in pixels'),
        'area': _NUMBER,
    },
}
HOW_TO_GET_COCO = (
    'get train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org, unpack them into one folder and set '
    'COCO_ROOT to it (a link at data/coco does too)'
)


def check_coco(
    ann_file: str | Path,
    image_dir: str | Path,
    classes: Sequence[str] | None = None,
    *,
    need_objects: bool = False,
    need_masks: bool = False,
    remedy: str = HOW_TO_GET_COCO,
) -> int:
    """Check that annotations and images are there and belong together.

    Args:
        ann_file: COCO json.
        image_dir: folder of its ``file_name``.
        classes: names that the json's categories must have; None takes any.
        need_objects: images without objects will be left out, so some must have one.
        need_masks: every object must have a segmentation.
        remedy: said when something is missing.

    Returns:
        the number of images.

    Raises:
        UserError: one line with the path expected and what to do.
    """
    ann_file, image_dir = Path(os.path.abspath(ann_file)), Path(os.path.abspath(image_dir))
    if not ann_file.is_file():
        raise UserError(f'no annotations at {ann_file}: {remedy}')
    if not image_dir.is_dir():
        raise UserError(f'no image folder at {image_dir}: {remedy}')
    content = read_coco(ann_file)
    images = content['images']
    if not images:
        raise UserError(f'{ann_file} lists 0 images: nothing to train or evaluate on')
    _check_entries(ann_file, content)
    absent = [i['file_name'] for i in images if not (image_dir / i['file_name']).is_file()]
    if absent:
        raise UserError(
            f'{ann_file} lists {absent[0]}, which is not in {image_dir} ({len(absent)} of {len(images)} images are not)'
        )
    if not content['annotations']:
        raise UserError(
            f'{ann_file} has {len(images)} images and 0 annotations: nothing to learn or to score'
        )
    bare = [a for a in content['annotations'] if not a.get('segmentation')] if need_masks else []
    if bare:
        raise UserError(
            f'{ann_file}: {len(bare)} of {len(content["annotations"])} annotations have no segmentation, which masks are learnt from '
            f'(the first has id {bare[0]["id"]}): add them, or train a detector of boxes alone'
        )
    if classes is not None:
        _check_classes(ann_file, [c['name'] for c in content['categories']], classes)
    if need_objects and not _count_annotated(content, classes):
        raise UserError(
            f'{ann_file}: 0 of {len(images)} images have an object of the classes, and images without one are left out'
        )
    return len(images)


def _check_entries(path: Path, content: dict) -> None:
    """What mmdet and pycocotools read of every entry, which they take for granted."""
    for part, fields in _FIELDS.items():
        for i, entry in enumerate(content[part]):
            if not isinstance(entry, dict):
                raise UserError(f'{path}: {part}[{i}] is {entry!r}, not an object with {", ".join(fields)}')
            for name, (kind, wanted) in fields.items():
                if not isinstance(entry.get(name), kind):
                    has = f'{name} {entry[name]!r}' if name in entry else f'no {name}'
                    raise UserError(
                        f'{path}: {part}[{i}] (id {entry.get("id")}) has {has}: it needs {wanted}'
                    )
    ids = {part: _ids(path, part, content[part]) for part in _FIELDS}
    for annotation in content['annotations']:
        for name, part in (('image_id', 'images'), ('category_id', 'categories')):
            if annotation[name] not in ids[part]:
                raise UserError(
                    f'{path}: the annotation {annotation["id"]} has {name} {annotation[name]!r}, which is none of {part}: '
                    'correct it, or take the annotation out'
                )
        box = annotation['bbox']
        if len(box) != 4 or not all(map(is_number, box)):
            raise UserError(
                f'{path}: the annotation {annotation["id"]} has bbox {box}: it needs 4 numbers, x, y, width, height in pixels'
            )


def _ids(path: Path, part: str, entries: list[dict]) -> set:
    ids = {entry['id'] for entry in entries}
    if len(ids) < len(entries):
        twice = next(i for i, n in Counter(entry['id'] for entry in entries).items() if n > 1)
        raise UserError(f'{path}: {part} has the id {twice!r} more than once: number them anew')
    return ids


def _count_annotated(content: dict, classes: Sequence[str] | None) -> int:
    wanted = {c['id'] for c in content['categories'] if classes is None or c['name'] in classes}
    return len(
        {a['image_id'] for a in content['annotations'] if a['category_id'] in wanted and not a.get('iscrowd')}
    )


def renumber_zero_ids(annotations: Sequence[object]) -> None:
    """Give annotations with id 0 the next free ids, in place.

    pycocotools notes the id of the object that a detection matches, and 0 for none: a perfect detection of such an object has AP 0.
    """
    records = [a for a in annotations if isinstance(a, dict) and isinstance(a.get('id'), int)]
    largest = max((a['id'] for a in records), default=0)
    for number, annotation in enumerate((a for a in records if a['id'] == 0), largest + 1):
        annotation['id'] = number


def read_coco(path: Path) -> dict:
    """A json with COCO's three lists.

    Raises:
        UserError: broken JSON, or one without them.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))  # Windows editors begin a file with a mark
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is broken JSON ({error}): fetch or write it again') from error
    missing = [
        k
        for k in ('images', 'annotations', 'categories')
        if not isinstance(content, dict) or not isinstance(content.get(k), list)
    ]
    if missing:
        raise UserError(f'{path} is JSON but not COCO: it has no list {", ".join(missing)}')
    return content


def _check_classes(path: Path, there: list[str], wanted: Sequence[str]) -> None:
    missing = [c for c in wanted if c not in there]
    if missing:
        near = difflib.get_close_matches(missing[0], there, n=1)
        meant = f' (did you mean {near[0]!r}?)' if near else ''
        raise UserError(
            f'{path} has no category {missing[0]!r} ({len(missing)} of the {len(wanted)} classes of the config are not in it); '
            f'it has {", ".join(map(repr, there[:20]))}{meant}: set metainfo.classes of the data sets to those, the heads follow'
        )
    order = [name for name in there if name in wanted]
    if order != list(wanted):  # mmdet numbers labels in the file's order, whatever the order of the classes
        raise UserError(
            f'the classes {list(wanted)} stand in another order in {path}, and labels follow the file: write {order}'
        )


def is_number(value: object) -> bool:
    """A finite number that fits a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_box(value: object) -> bool:
    """Four finite numbers."""
    return isinstance(value, list | tuple) and len(value) == 4 and all(map(is_number, value))
