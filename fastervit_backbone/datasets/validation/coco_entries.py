"""The COCO rules applied to the entries of a json: categories, images, annotations, boxes, masks."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..coco import has_size, is_box, is_id, is_number
from ..rules import COCO_RULES, Violation
from .coco_masks import SLACK, mask_violation

#: From here on, floating-point numbers do not tell whole numbers apart: evaluation mixes ids up.
HUGE = 2**53


def content_violations(content: Mapping) -> Iterator[Violation]:
    """Find what is wrong with a json, without opening its images.

    In the order categories, images, annotations, the whole.
    """
    categories: dict[int, dict] = {}
    for entry, violations in walk_categories(content['categories']):
        yield from violations
        if is_category(entry):
            categories.setdefault(entry['id'], entry)
    images: dict[int, dict] = {}
    for entry, violations in walk_images(content['images']):
        yield from violations
        if is_image(entry):
            images.setdefault(entry['id'], entry)
    for _, violations in walk_annotations(content['annotations'], images, categories):
        yield from violations
    yield from _summary_violations(content, images, categories)


def walk_categories(entries: Sequence) -> Iterator[tuple[Any, list[Violation]]]:
    """Yield every category with its violations."""
    ids: set[int] = set()
    names: set[str] = set()
    spellings: dict[str, str] = {}  # lower case -> the first spelling
    for i, entry in enumerate(entries):
        if not is_category(entry):
            yield entry, [_violation('category-bad', f'categories[{i}]: {_short(entry)}')]
            continue
        violations, name = [], entry['name']
        key = name.strip().lower()
        if entry['id'] in ids:
            violations.append(_violation('category-id-twice', f'{entry["id"]}: {name}'))
        if name in names:
            violations.append(_violation('category-name-twice', f'{entry["id"]}: {name}'))
        elif key in spellings:
            violations.append(_violation('category-name-alike', f'{spellings[key]!r} and {name!r}'))
        if abs(entry['id']) >= HUGE:
            violations.append(_violation('category-id-huge', f'{entry["id"]}: {name}'))
        ids.add(entry['id'])
        names.add(name)
        spellings.setdefault(key, name)
        yield entry, violations


def walk_images(entries: Sequence) -> Iterator[tuple[Any, list[Violation]]]:
    """Yield every image's entry with its violations; no file is opened."""
    ids: set[int] = set()
    names: set[str] = set()
    for i, entry in enumerate(entries):
        if not is_image(entry):
            yield entry, [_violation('image-bad', f'images[{i}]: {_short(entry)}')]
            continue
        if entry['id'] in ids:
            yield entry, [_violation('image-id-twice', f'{entry["id"]}: {entry["file_name"]}')]
            continue
        violations, name = [], entry['file_name']
        if name in names:
            violations.append(_violation('image-name-twice', name))
        if abs(entry['id']) >= HUGE:
            violations.append(_violation('image-id-huge', f'{entry["id"]}: {name}'))
        if not has_size(entry):
            size = f'width {_short(entry.get("width"))}, height {_short(entry.get("height"))}'
            violations.append(_violation('image-size-bad', f'{name}: {size}'))
        ids.add(entry['id'])
        names.add(name)
        yield entry, violations


def walk_annotations(
    entries: Sequence, images: Mapping[int, Mapping], category_ids: Collection[int]
) -> Iterator[tuple[Any, list[Violation]]]:
    """Yield every annotation with its violations.

    Args:
        entries: the annotations.
        images: id -> entry.
        category_ids: that exist.
    """
    ids: set[int] = set()
    for i, a in enumerate(entries):
        if not isinstance(a, dict):
            yield a, [_violation('annotation-bad', f'annotations[{i}]: {_short(a)}')]
            continue
        number = a.get('id')
        place = f'annotation {number}' if is_id(number) else f'annotations[{i}]'
        image = images.get(a['image_id']) if is_reference(a.get('image_id')) else None
        broken = [  # rule or '', the field with the value
            (_id_violation(number, ids), 'id'),
            ('annotation-image-unknown' if image is None else '', 'image_id'),
            (
                '' if _is_known(a.get('category_id'), category_ids) else 'annotation-category-unknown',
                'category_id',
            ),
            (box_violation(a.get('bbox'), image), 'bbox'),
            (mask_violation(a.get('segmentation'), a.get('bbox'), image), 'segmentation'),
            (_area_violation(a), 'area'),
            ('' if a.get('iscrowd') in (0, 1) else 'iscrowd-missing', 'iscrowd'),
        ]
        if is_id(number):
            ids.add(number)
        yield (
            a,
            [
                _violation(rule, f'{place}: {key} {_short(a[key])}' if key in a else place)
                for rule, key in broken
                if rule
            ],
        )


def _id_violation(number: object, seen: Collection[int]) -> str:
    if not is_id(number):
        return 'annotation-id-bad'
    if abs(number) >= HUGE:
        return 'annotation-id-huge'
    if number in seen:
        return 'annotation-id-twice'
    return 'annotation-id-zero' if number == 0 else ''


def _is_known(reference: object, ids: Collection[int]) -> bool:
    return is_reference(reference) and reference in ids


def _area_violation(a: Mapping) -> str:
    if 'area' not in a:
        return 'area-missing'
    return '' if is_number(a['area']) else 'area-bad'


def box_violation(box: object, image: Mapping | None) -> str:
    """Return the rule that a box breaks, or ''; ``image``: the entry of its image, where there is one."""
    if not (isinstance(box, list) and is_box(box)):
        return 'box-bad'
    x, y, w, h = box
    if w < 0 or h < 0:
        return 'box-negative'
    if w == 0 or h == 0:
        return 'box-flat'
    if image is not None and has_size(image):
        W, H = image['width'], image['height']
        if x >= W or y >= H or x + w <= 0 or y + h <= 0:
            return 'box-outside'
        if x < -SLACK or y < -SLACK or x + w > W + SLACK or y + h > H + SLACK:
            return 'box-reaches-out'
    return 'box-tiny' if w < 1 or h < 1 else ''


def _summary_violations(
    content: Mapping, images: Mapping[int, Mapping], categories: Mapping[int, Mapping]
) -> Iterator[Violation]:
    if not categories:
        yield _violation('no-categories')
    else:
        first, last = min(categories), max(categories)
        if first == 0:
            yield _violation('category-id-zero', str(categories[0]['name']))
        if last - first + 1 != len(categories):
            yield _violation('category-id-gaps', f'{first} to {last}, {len(categories)} classes')
    if not images:
        yield _violation('no-images')
    annotations = [a for a in content['annotations'] if isinstance(a, dict)]
    if not content['annotations']:
        yield _violation('no-annotations')
    crowds = [a for a in annotations if a.get('iscrowd') == 1]
    yield from (_violation('crowds') for _ in crowds)
    if crowds and len(crowds) == len(annotations):
        yield _violation('all-crowds')
    without = sum(a.get('segmentation') in (None, []) for a in annotations)
    if 0 < without < len(annotations):
        yield _violation('masks-partly', f'{without} of {len(annotations)}')
    annotated = {a['image_id'] for a in annotations if is_reference(a.get('image_id'))}
    for key, image in images.items():
        if key not in annotated:
            yield _violation('image-empty', image['file_name'])
    for name, count in sorted(count_objects(content).items()):
        if not count:
            yield _violation('class-unused', name)


def count_objects(content: Mapping) -> dict[str, int]:
    """Count the objects of each class, by name; crowds count."""
    names = {c['id']: c['name'] for c in content['categories'] if is_category(c)}
    counts = dict.fromkeys(names.values(), 0)
    for a in content['annotations']:
        label = a.get('category_id') if isinstance(a, dict) else None
        if is_reference(label) and label in names:
            counts[names[label]] += 1
    return counts


def is_category(value: object) -> bool:
    """Whether this has an integer id and a printable name."""
    name = value.get('name') if isinstance(value, dict) else None
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        return False
    return is_id(value.get('id'))


def is_image(value: object) -> bool:
    """Whether this is an object with an integer id and a file_name."""
    if not isinstance(value, dict) or not is_id(value.get('id')):
        return False
    return isinstance(value.get('file_name'), str) and bool(value['file_name'])


def is_reference(value: object) -> bool:
    """Whether this can be an id of something else: a number; True would find the id 1."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _violation(rule: str, example: str = '') -> Violation:
    return Violation(COCO_RULES[rule], example)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + '...'
