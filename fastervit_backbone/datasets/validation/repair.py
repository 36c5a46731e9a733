"""A COCO json mended: what training and evaluation would stumble over is put right or taken out, and every change said."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...utils.errors import UserError
from ...utils.files import replacing
from ..coco import is_number
from .coco import Split, box_problems, dicts, hashable, is_category, is_id, look, mask_problems


def repair(split: Split) -> dict:
    """A copy of the json that training and evaluation take; ``split.changes`` says what was done, a line each.

    Taken out: annotations of unknown images or categories, with boxes that cannot be, with masks of which nothing is left; entries
    listed twice; images that are missing or cannot be read, with their annotations. Mended: boxes are cut to their images, sizes are
    those of the files, polygons of fewer than three points go, ids of annotations become unique, ``area`` and ``iscrowd`` are filled in.
    """
    split.changes = []
    say = split.changes.append
    content = copy.deepcopy(split.content)
    categories: dict = {}
    for c in content['categories']:
        twice = is_category(c) and (
            c['id'] in categories or c['name'] in {k['name'] for k in categories.values()}
        )
        if twice or not is_category(c):
            say(f'category {json.dumps(c)[:80]}: {"listed twice" if twice else "bad"}, taken out')
        else:
            categories[c['id']] = c
    images: dict = {}
    names = set()
    for entry in content['images']:
        name = entry.get('file_name') if isinstance(entry, dict) else None
        if not isinstance(name, str) or not is_id(entry.get('id')) or entry['id'] in images or name in names:
            say(f'image {json.dumps(entry)[:80]}: bad or listed twice, taken out')
            continue
        problem, size, _ = split.looked.get(name) or look(split.images / name)
        if problem:
            say(
                f'image {name}: {"not there" if problem[1] == "image-missing" else "cannot be read"}, taken out'
            )
            continue
        if size != (entry.get('width'), entry.get('height')):
            say(f'image {name}: size {entry.get("width")}x{entry.get("height")} -> {size[0]}x{size[1]}')
            entry['width'], entry['height'] = size
        images[entry['id']] = entry
        names.add(name)
    kept, ids = [], set()
    largest = max((a['id'] for a in dicts(content['annotations']) if is_id(a.get('id'))), default=0)
    for i, a in enumerate(content['annotations']):
        why = _mend(a, images, categories, say, i)
        if why:
            say(
                f'annotation {a.get("id", f"entry {i}") if isinstance(a, dict) else f"entry {i}"}: {why}, taken out'
            )
            continue
        if not is_id(a.get('id')) or a['id'] in ids or a['id'] == 0:
            largest += 1
            say(f'annotation {a.get("id")}: id -> {largest}')
            a['id'] = largest
        ids.add(a['id'])
        kept.append(a)
    return content | dict(
        categories=list(categories.values()), images=list(images.values()), annotations=kept
    )


def _mend(a: object, images: Mapping, categories: Mapping, say: Callable[[str], None], i: int) -> str:
    """Mend an annotation in place; why it cannot be, or ''."""
    if not isinstance(a, dict):
        return 'no record'
    if not hashable(a.get('image_id')) or a.get('image_id') not in images:
        return 'its image is not listed or was taken out'
    if not hashable(a.get('category_id')) or a.get('category_id') not in categories:
        return 'its category is not listed'
    image, where = images[a['image_id']], f'annotation {a.get("id", f"entry {i}")}'
    problems = {kind for _, kind, _ in box_problems(a.get('bbox'), image)}
    if problems & {'box-bad', 'box-degenerate', 'box-outside'}:
        return {
            'box-bad': 'bad box',
            'box-degenerate': 'box without area',
            'box-outside': 'box outside of its image',
        }[problems.pop()]
    x, y, w, h = a['bbox']
    x1, y1, x2, y2 = max(0, x), max(0, y), min(image['width'], x + w), min(image['height'], y + h)
    if 'box-reaches-out' in problems:
        say(f'{where}: box {a["bbox"]} -> {[x1, y1, x2 - x1, y2 - y1]}')
        a['bbox'] = [x1, y1, x2 - x1, y2 - y1]
    kinds = {kind for level, kind, _ in mask_problems(a, image) if level == 'error'}
    if kinds & {'mask-bad', 'mask-size'}:
        return 'bad segmentation'
    if kinds:
        good = [p for p in a['segmentation'] if len(p) >= 6 and len(p) % 2 == 0 and all(map(is_number, p))]
        if not good:
            return 'no polygon of three points'
        say(f'{where}: {len(a["segmentation"]) - len(good)} of {len(a["segmentation"])} polygons taken out')
        a['segmentation'] = good
    for key, value in (('area', a['bbox'][2] * a['bbox'][3]), ('iscrowd', 0)):
        if not is_number(a.get(key)):
            say(f'{where}: {key} {value:g}')
            a[key] = value
    return ''


def write_repaired(splits: Sequence[Split], out: str | Path) -> list[str]:
    """Write ``NAME.json`` of every split and ``changes.log`` into a folder; returns lines for people.

    Raises:
        UserError: it would overwrite what it read, or take out most images for not being there. Nothing is written then.
    """
    out = Path(out)
    said, log = [], []
    contents = [repair(split) for split in splits]
    for split in splits:
        count, missing = (
            len(split.content['images']),
            sum(line.endswith('not there, taken out') for line in split.changes),
        )
        if missing > count / 3:
            raise UserError(
                f'--fix {out}: {missing} of {count} images of {split.name} are not in {split.images}: name their folder (--images)'
            )
    for split, content in zip(splits, contents, strict=True):
        target = out / f'{split.name}.json'
        if target.exists() and target.samefile(split.path):
            raise UserError(f'--fix {out}: {target} is what is to be repaired: name another folder')
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content))
        log += [f'{split.name}: {line}' for line in split.changes]
        said.append(f'repaired: {target} ({len(split.changes)} changes)')
    with replacing(out / 'changes.log') as temporary:
        temporary.write_text(''.join(f'{line}\n' for line in log))
    return [*said, f'every change: {out / "changes.log"}']
