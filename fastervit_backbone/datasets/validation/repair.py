"""Repair a COCO json by the same rules that found its problems; every change is logged."""

import copy
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ...utils.errors import UserError
from ...utils.files import replacing
from ..coco import is_id
from ..rules import Violation
from .coco import CocoSplit
from .coco_entries import (
    HUGE,
    is_category,
    is_image,
    is_reference,
    walk_annotations,
    walk_categories,
    walk_images,
)
from .coco_masks import polygon_violation
from .frames import move_to_file, turned_before
from .image_files import look

#: A violation that readers of other layouts report, and whose object stays.
_KEPT = 'box-reaches-out'


def repair(split: CocoSplit) -> dict:
    """Return a copy of the json that training and evaluation take; the split itself stays as it is.

    Each violation whose rule has a ``repair`` is repaired: by removing the entry (with an image also its
    annotations), or by one of :data:`ACTIONS`. A size is only changed together with the coordinates
    (:func:`.frames.move_to_file`); where that is not explained, image and annotations stay as they are.
    ``split.changes`` gets one line per change.
    """
    content = copy.deepcopy(split.content)
    changes = split.changes = [
        f'{v.example}: {v.rule.id}, left out' for v in split.violations if v.rule.id != _KEPT
    ]
    _renumber_huge(content, changes)
    _merge_categories(content, changes)
    _merge_images(content, changes)
    images, unexplained = [], set()
    by_image: dict[object, list[dict]] = {}
    for a in content['annotations']:
        if isinstance(a, dict) and is_reference(a.get('image_id')):
            by_image.setdefault(a['image_id'], []).append(a)
    entries = [entry for entry in _keep(walk_images(content['images']), changes) if is_image(entry)]
    names = [entry['file_name'] for entry in entries]
    files = {name: split.files.get(name) or look(split.images / name) for name in names}
    told = {turned_before(e, by_image.get(e['id'], ()), files[e['file_name']]) for e in entries}
    upright = True in told and False not in told
    for entry in entries:
        name = entry['file_name']
        file = files[name]
        if file.problem:
            changes.append(f'image {name}: {file.problem}, removed')
            continue
        change, is_explained = move_to_file(entry, by_image.get(entry['id'], ()), file, upright)
        if change:
            changes.append(f'image {name}: {change}')
        if not is_explained:
            unexplained.add(entry['id'])
        images.append(entry)
    content['images'] = images
    by_id = {entry['id']: entry for entry in images}
    category_ids = {c['id'] for c in content['categories']}
    content['annotations'] = _repair_annotations(
        content['annotations'], by_id, category_ids, unexplained, changes
    )
    return content


def _renumber_huge(content: dict, changes: list[str]) -> None:
    """Give images and categories whose ids are too large others, which annotations follow."""
    for part, what in (('images', 'image'), ('categories', 'category')):
        ids = [e['id'] for e in content[part] if isinstance(e, dict) and is_id(e.get('id'))]
        free = itertools.count(max((i for i in ids if abs(i) < HUGE), default=0) + 1)
        new = {i: next(free) for i in dict.fromkeys(ids) if abs(i) >= HUGE}
        changes += [f'{part}: id {old} -> {number}' for old, number in new.items()]
        for entry in content[part]:
            if isinstance(entry, dict) and is_id(entry.get('id')):
                entry['id'] = new.get(entry['id'], entry['id'])
        _redirect(content, what, new)  # the line above says it


def _merge_images(content: dict, changes: list[str]) -> None:
    """Keep the first of the entries of one file; the annotations of the others follow."""
    first: dict[str, int] = {}
    merged = {}
    for entry in filter(is_image, content['images']):
        kept = first.setdefault(entry['file_name'], entry['id'])
        if kept != entry['id']:
            merged[entry['id']] = kept
    changes += _redirect(content, 'image', merged)


def _merge_categories(content: dict, changes: list[str]) -> None:
    """Keep the first of the categories of one name; its annotations follow."""
    before = content['categories']
    content['categories'] = _keep(walk_categories(before), changes)
    ids: dict[str, int] = {}
    for c in content['categories']:
        ids.setdefault(c['name'], c['id'])
    kept = {c['id'] for c in content['categories']}
    merged = {
        c['id']: ids[c['name']] for c in before if is_category(c) and c['id'] not in kept and c['name'] in ids
    }
    changes += _redirect(content, 'category', merged)


def _redirect(content: dict, what: str, ids: Mapping[int, int]) -> list[str]:
    """Let annotations refer to other images or categories; returns a line for each old id."""
    key, moved = f'{what}_id', Counter()
    for a in content['annotations']:
        if isinstance(a, dict) and is_reference(a.get(key)) and a[key] in ids:
            moved[a[key]] += 1
            a[key] = ids[a[key]]
    return [f'{what} {i} -> {ids[i]}: {count} annotations' for i, count in moved.items()]


def _keep(walked: Iterable[tuple[dict, list[Violation]]], changes: list[str]) -> list[dict]:
    """Return the entries that no rule removes."""
    kept = []
    for entry, violations in walked:
        removing = next((v for v in violations if v.rule.repair == 'remove'), None)
        if removing is None:
            kept.append(entry)
        else:
            changes.append(f'{removing.example}: {removing.rule.id}, removed')
    return kept


def _repair_annotations(
    annotations: list,
    images: Mapping[int, Mapping],
    category_ids: set[int],
    unexplained: set,
    changes: list[str],
) -> list[dict]:
    ids = (a['id'] for a in annotations if isinstance(a, dict) and is_id(a.get('id')))
    largest = max((number for number in ids if number < HUGE), default=0)
    new_ids = itertools.count(max(largest, 0) + 1)
    kept = []
    for a, violations in walk_annotations(annotations, images, category_ids):
        if isinstance(a, dict) and is_reference(a.get('image_id')) and a['image_id'] in unexplained:
            kept.append(a)  # in another frame: nothing of it is clipped or removed
            continue
        removed = next((v for v in violations if v.rule.repair == 'remove'), None)
        place = violations[0].example.split(': ')[0] if violations else ''
        for violation in violations if removed is None else ():
            action = ACTIONS.get(violation.rule.repair)
            if violation.rule.repair == 'renumber':
                a['id'] = next(new_ids)
                changes.append(f'{place}: {violation.rule.id}, id -> {a["id"]}')
            elif action is not None:
                change = action(a, images[a['image_id']])
                if not change:
                    removed = violation
                    break
                changes.append(f'{place}: {change}')
        if removed is None:
            kept.append(a)
        else:
            changes.append(f'{removed.example}: {removed.rule.id}, removed')
    return kept


def _clip_box(a: dict, image: Mapping) -> str:
    x, y, w, h = a['bbox']
    x1, y1 = max(0, x), max(0, y)
    x2, y2 = min(image['width'], x + w), min(image['height'], y + h)
    before, a['bbox'] = a['bbox'], [x1, y1, x2 - x1, y2 - y1]
    if not a.get('segmentation'):
        a['area'] = (x2 - x1) * (y2 - y1)
    return f'bbox {before} -> {a["bbox"]}'


def _drop_polygons(a: dict, image: Mapping) -> str:
    polygons = a['segmentation']
    a['segmentation'] = [p for p in polygons if not polygon_violation(p)]
    dropped = len(polygons) - len(a['segmentation'])
    return f'{dropped} of {len(polygons)} polygons removed' if a['segmentation'] else ''


def _drop_mask(a: dict, image: Mapping) -> str:
    del a['segmentation']
    return 'segmentation removed, its box stays'


def _fill_area(a: dict, image: Mapping) -> str:
    a['area'] = a['bbox'][2] * a['bbox'][3]
    return f'area {a["area"]:g}'


def _fill_iscrowd(a: dict, image: Mapping) -> str:
    a['iscrowd'] = 0
    return 'iscrowd 0'


#: Change an annotation of an image in place and say what was changed; '' where nothing of it is left.
ACTIONS: dict[str, Callable[[dict, Mapping], str]] = {
    'clip box': _clip_box,
    'drop mask': _drop_mask,
    'drop polygons': _drop_polygons,
    'fill area': _fill_area,
    'fill iscrowd': _fill_iscrowd,
}


def write_repaired(splits: Sequence[CocoSplit], out: str | Path) -> list[str]:
    """Write ``NAME.json`` of every split and ``changes.log`` into a folder; returns lines for the user.

    Raises:
        UserError: it would overwrite its input, or remove most images because they do not exist. Nothing is
            written then.
    """
    out = Path(out)
    contents = [repair(split) for split in splits]
    for split in splits:
        count = len(split.content['images'])
        missing = sum(line.endswith('image-missing, removed') for line in split.changes)
        if missing > count / 3:
            raise UserError(
                f'--fix {out}: {missing} of {count} images of {split.name} do not exist in {split.images}: '
                'name the right folder (--images)'
            )
        target = out / f'{split.name}.json'
        if target.exists() and target.samefile(split.path):
            raise UserError(f'--fix {out}: {target} is the file to be repaired: name another folder')
    lines, log = [], []
    for split, content in zip(splits, contents, strict=True):
        target = out / f'{split.name}.json'
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content))
        log += [f'{split.name}: {line}' for line in split.changes]
        lines.append(f'repaired: {target} ({len(split.changes)} changes)')
    with replacing(out / 'changes.log') as temporary:
        temporary.write_text(''.join(f'{line}\n' for line in log))
    return [*lines, f'every change: {out / "changes.log"}']
