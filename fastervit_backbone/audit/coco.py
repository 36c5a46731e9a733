"""A COCO json looked through from end to end: structure, ids, categories, images, boxes, masks; and repaired."""

import copy
import difflib
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoint_io import replacing
from ..data.images import open_image
from ..errors import UserError
from .findings import Collector, Finding

#: Pixels by which a box may reach out of its image without being worth a word.
SLACK = 1.0


@dataclass
class Split:
    """One json and its folder of images.

    Args:
        name: 'train', 'val', ...
        path: the json.
        images: the folder that its ``file_name`` are in.
        content: as read.
        findings: about it.
        hashes: content of an image file -> its names.
        changes: what :func:`repair` did, a line each.
    """

    name: str
    path: Path
    images: Path
    content: dict
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def counts(self) -> Counter:
        """Objects of each class, by name; crowds count."""
        names = {c['id']: str(c['name']) for c in _dicts(self.content['categories']) if _hashable(c.get('id')) and 'name' in c}
        found = Counter({name: 0 for name in names.values()})
        found.update(
            names[a['category_id']]
            for a in _dicts(self.content['annotations'])
            if _hashable(a.get('category_id')) and a['category_id'] in names
        )
        return found


def read_split(name: str, path: str | Path, images: str | Path) -> Split:
    """Read a json.

    Raises:
        UserError: it is not there, no JSON, or without the three lists of COCO.
    """
    path, images = Path(path), Path(images)
    if not path.is_file():
        raise UserError(f'{name}: no annotations at {path}')
    if not images.is_dir():
        raise UserError(f'{name}: no image folder at {images}')
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is broken JSON ({error}): fetch or write it again') from error
    missing = [k for k in ('images', 'annotations', 'categories') if not isinstance(content, dict) or not isinstance(content.get(k), list)]
    if missing:
        raise UserError(f'{path} is JSON but not COCO: it has no list {", ".join(missing)}')
    return Split(name, path, images, content)


def audit(split: Split, *, read_images: bool = True, progress: Callable[[Iterable, int], Iterable] | None = None) -> list[Finding]:
    """Look through a split.

    Args:
        split: its ``findings`` and ``hashes`` are filled.
        read_images: open every image file; else only see whether it is there.
        progress: wraps the images as they are read, given their number.

    Returns:
        the findings, errors first.
    """
    found = Collector(split.name)
    categories = _audit_categories(split.content['categories'], found)
    images = _audit_images(split, found, read_images, progress)
    _audit_annotations(split.content['annotations'], images, categories, found)
    split.findings = found.findings()
    return split.findings


def _audit_categories(entries: Sequence, found: Collector) -> dict:
    categories: dict = {}
    lower: dict[str, str] = {}
    for i, c in enumerate(entries):
        if not _is_category(c):
            found.add('error', 'category-bad', 'categories without a whole number as id and a name', f'entry {i}')
            continue
        if c['id'] in categories:
            found.add('error', 'category-id-twice', 'category ids that occur twice: give each class its own', c['id'])
        name = c['name']
        if name in categories.values():
            found.add('error', 'category-name-twice', 'class names that occur twice: make them one category', name)
        elif lower.get(name.strip().lower(), name) != name:
            found.add(
                'warning',
                'category-name-alike',
                'class names that differ in case or spaces alone',
                f'{lower[name.strip().lower()]!r} and {name!r}',
            )
        lower.setdefault(name.strip().lower(), name)
        categories[c['id']] = name
    if not categories:
        found.add('error', 'no-categories', 'no categories: nothing can be learnt')
    elif min(categories) == 0:
        found.add('note', 'category-id-zero', 'a category has id 0, which is fine here (some tools take it for background)')
    if categories and sorted(categories) != list(range(min(categories), min(categories) + len(categories))):
        found.add(
            'note',
            'category-id-gaps',
            'category ids have gaps, which is fine here',
            f'{min(categories)} to {max(categories)}, {len(categories)} classes',
        )
    return categories


def _audit_images(split: Split, found: Collector, read_images: bool, progress: Callable | None) -> dict:
    """Known id -> (file name, width, height), the sizes those of the json."""
    images, names = {}, Counter()
    for i, entry in enumerate(split.content['images']):
        if (
            not isinstance(entry, dict)
            or not _is_id(entry.get('id'))
            or not isinstance(entry.get('file_name'), str)
            or not entry['file_name']
        ):
            found.add('error', 'image-bad', 'images without a whole number as id and a file_name', f'entry {i}')
            continue
        if entry['id'] in images:
            found.add('error', 'image-id-twice', 'image ids that occur twice: the annotations of one would go to the other', entry['id'])
            continue
        names[entry['file_name']] += 1
        if names[entry['file_name']] == 2:
            found.add('error', 'image-name-twice', 'files that are listed twice', entry['file_name'])
        if not (_is_size(entry.get('width')) and _is_size(entry.get('height'))):
            found.add('error', 'image-size-bad', 'images without width and height as whole numbers from 1', entry['file_name'])
        images[entry['id']] = entry
    if not images:
        found.add('error', 'no-images', 'no images')
    listed = list(images.values())
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda e: _look(split.images / e['file_name'], read_images), listed)
        for entry, (problem, size, digest) in zip(listed, progress(results, len(listed)) if progress else results, strict=True):
            name = entry['file_name']
            if problem:
                level, kind, message = problem
                found.add(level, kind, message, name)
            if digest:
                split.hashes.setdefault(digest, []).append(name)
            if size and _is_size(entry.get('width')) and _is_size(entry.get('height')) and size != (entry['width'], entry['height']):
                turned = size[::-1] == (entry['width'], entry['height'])
                found.add(
                    'error',
                    'image-size-differs',
                    'images of another size than the json says' + (': it has the size before EXIF turns them' if turned else ''),
                    f'{name}: {size[0]}x{size[1]}, json {entry["width"]}x{entry["height"]}',
                )
    for same in split.hashes.values():
        if len(set(same)) > 1:
            found.add('warning', 'image-content-twice', 'files with the same content', ' = '.join(sorted(set(same))[:3]))
    return images


def _look(path: Path, read: bool) -> tuple[tuple[str, str, str] | None, tuple[int, int] | None, str | None]:
    """(what is wrong, size as training sees it, hash of the content)."""
    if not path.is_file():
        return ('error', 'image-missing', 'images that are listed and not there'), None, None
    if not read:
        return None, None, None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with open_image(path) as image:
            size = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # stored on its side
                size = size[::-1]
            image.load()
    except UserError:
        return ('error', 'image-unreadable', 'files that cannot be read as images'), None, digest
    return None, size, digest


def _audit_annotations(entries: Sequence, images: Mapping, categories: Mapping, found: Collector) -> None:
    ids, used = set(), set()
    crowds = 0
    for i, a in enumerate(entries):
        if not isinstance(a, dict):
            found.add('error', 'annotation-bad', 'annotations that are no records', f'entry {i}')
            continue
        where = a.get('id', f'entry {i}')
        if not _is_id(a.get('id')):
            found.add('error', 'annotation-id-bad', 'annotations without a whole number as id', f'entry {i}')
        elif a['id'] in ids:
            found.add('error', 'annotation-id-twice', 'annotation ids that occur twice: evaluation mixes them up', where)
        else:
            ids.add(a['id'])
        image = images.get(a.get('image_id')) if _hashable(a.get('image_id')) else None
        if image is None:
            found.add('error', 'annotation-image-unknown', 'annotations of images that are not listed', where)
        else:
            used.add(a['image_id'])
        if not _hashable(a.get('category_id')) or a.get('category_id') not in categories:
            found.add('error', 'annotation-category-unknown', 'annotations of categories that are not listed', where)
        crowds += a.get('iscrowd') == 1
        for level, kind, message in _box_problems(a.get('bbox'), image):
            found.add(level, kind, message, where)
        for level, kind, message in _mask_problems(a, image):
            found.add(level, kind, message, where)
        for key in ('area', 'iscrowd'):
            if key not in a:
                found.add('warning', f'{key}-missing', f'annotations without {key}, which mmdet or pycocotools read', where)
        if 'area' in a and not _is_number(a['area']):
            found.add('error', 'area-bad', 'areas that are no number', where)
    if not entries:
        found.add('error', 'no-annotations', 'no annotations: nothing to learn or to score')
    if crowds:
        found.add('note', 'crowds', f'{crowds} crowds: evaluation counts what is in them neither right nor wrong, training leaves them out')
    bare = [image['file_name'] for key, image in images.items() if key not in used]
    if bare:
        found.add(
            'note',
            'image-empty',
            f'{len(bare)} of {len(images)} images have no objects: they are kept and teach what is background',
            bare[0],
        )


def _box_problems(box: object, image: Mapping | None) -> list[tuple[str, str, str]]:
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return [('error', 'box-bad', 'boxes that are not four finite numbers x, y, width, height')]
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return [('error', 'box-degenerate', 'boxes without area (x, y, width, height: not the second corner)')]
    if image is None or not (_is_size(image.get('width')) and _is_size(image.get('height'))):
        return []
    W, H = image['width'], image['height']
    if x >= W or y >= H or x + w <= 0 or y + h <= 0:
        return [('error', 'box-outside', 'boxes wholly outside of their images')]
    if x < -SLACK or y < -SLACK or x + w > W + SLACK or y + h > H + SLACK:
        return [('warning', 'box-reaches-out', 'boxes that reach out of their images: training cuts them')]
    return [('warning', 'box-tiny', 'boxes of less than a pixel')] if w < 1 or h < 1 else []


def _mask_problems(a: Mapping, image: Mapping | None) -> list[tuple[str, str, str]]:
    mask = a.get('segmentation')
    if mask is None or mask == []:
        return [('note', 'mask-none', 'annotations without a segmentation: enough for boxes, not for masks')]
    if isinstance(mask, dict):
        size, counts = mask.get('size'), mask.get('counts')
        if not (isinstance(size, list) and len(size) == 2 and isinstance(counts, str | list)):
            return [('error', 'mask-bad', 'segmentations that are neither polygons nor run-length codes')]
        if image is not None and size != [image.get('height'), image.get('width')]:
            return [('error', 'mask-size', 'run-length codes of another size than their images')]
        if isinstance(counts, list) and not (all(isinstance(c, int) and c >= 0 for c in counts) and sum(counts) == size[0] * size[1]):
            return [('error', 'mask-bad', 'segmentations that are neither polygons nor run-length codes')]
        return []
    if not isinstance(mask, list) or not all(isinstance(p, list) for p in mask):
        return [('error', 'mask-bad', 'segmentations that are neither polygons nor run-length codes')]
    if any(len(p) % 2 or not all(map(_is_number, p)) for p in mask):
        return [('error', 'polygon-bad', 'polygons that are not pairs of finite numbers')]
    if any(len(p) < 6 for p in mask):
        return [('error', 'polygon-short', 'polygons of fewer than three points, which end mask evaluation')]
    return []


def compare_splits(splits: Sequence[Split]) -> list[Finding]:
    """What is between splits: classes and ids that differ, images that are in both."""
    found = []
    for i, a in enumerate(splits):
        for b in splits[i + 1 :]:
            found += _compare(a, b)
    return found


def _compare(a: Split, b: Split) -> list[Finding]:
    found = Collector('')
    ours, theirs = ({str(c['name']): c['id'] for c in _dicts(s.content['categories']) if 'name' in c and 'id' in c} for s in (a, b))
    for one, other, here, there in ((a, b, ours, theirs), (b, a, theirs, ours)):
        for name in sorted(set(here) - set(there)):
            near = difflib.get_close_matches(name, sorted(set(there) - set(here)) or sorted(there), n=1)
            meant = f', where {near[0]!r} is nearest' if near else ''
            found.add('error', 'classes-differ', f'classes of {one.name} that {other.name} has not{meant}', name)
    for name in sorted(set(ours) & set(theirs)):
        if ours[name] != theirs[name]:
            found.add(
                'warning',
                'ids-differ',
                f'classes with one id in {a.name} and another in {b.name}',
                f'{name}: {ours[name]} and {theirs[name]}',
            )
    for digest in sorted(set(a.hashes) & set(b.hashes)):
        example = f'{a.hashes[digest][0]} = {b.hashes[digest][0]}'
        found.add('error', 'splits-overlap', f'images that are in {a.name} and in {b.name}: scores on them mean nothing', example)
    return found.findings()


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
        twice = _is_category(c) and (c['id'] in categories or c['name'] in {k['name'] for k in categories.values()})
        if twice or not _is_category(c):
            say(f'category {json.dumps(c)[:80]}: {"listed twice" if twice else "bad"}, taken out')
        else:
            categories[c['id']] = c
    images: dict = {}
    names = set()
    for entry in content['images']:
        name = entry.get('file_name') if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _is_id(entry.get('id')) or entry['id'] in images or name in names:
            say(f'image {json.dumps(entry)[:80]}: bad or listed twice, taken out')
            continue
        problem, size, _ = _look(split.images / name, True)
        if problem:
            say(f'image {name}: {"not there" if problem[1] == "image-missing" else "cannot be read"}, taken out')
            continue
        if size != (entry.get('width'), entry.get('height')):
            say(f'image {name}: size {entry.get("width")}x{entry.get("height")} -> {size[0]}x{size[1]}')
            entry['width'], entry['height'] = size
        images[entry['id']] = entry
        names.add(name)
    kept, ids = [], set()
    largest = max((a['id'] for a in _dicts(content['annotations']) if _is_id(a.get('id'))), default=0)
    for i, a in enumerate(content['annotations']):
        why = _mend(a, images, categories, say, i)
        if why:
            say(f'annotation {a.get("id", f"entry {i}") if isinstance(a, dict) else f"entry {i}"}: {why}, taken out')
            continue
        if not _is_id(a.get('id')) or a['id'] in ids:
            largest += 1
            say(f'annotation {a.get("id")}: id -> {largest}')
            a['id'] = largest
        ids.add(a['id'])
        kept.append(a)
    return content | dict(categories=list(categories.values()), images=list(images.values()), annotations=kept)


def _mend(a: object, images: Mapping, categories: Mapping, say: Callable[[str], None], i: int) -> str:
    """Mend an annotation in place; why it cannot be, or ''."""
    if not isinstance(a, dict):
        return 'no record'
    if not _hashable(a.get('image_id')) or a.get('image_id') not in images:
        return 'its image is not listed or was taken out'
    if not _hashable(a.get('category_id')) or a.get('category_id') not in categories:
        return 'its category is not listed'
    image, where = images[a['image_id']], f'annotation {a.get("id", f"entry {i}")}'
    problems = {kind for _, kind, _ in _box_problems(a.get('bbox'), image)}
    if problems & {'box-bad', 'box-degenerate', 'box-outside'}:
        return {'box-bad': 'bad box', 'box-degenerate': 'box without area', 'box-outside': 'box outside of its image'}[problems.pop()]
    x, y, w, h = a['bbox']
    x1, y1, x2, y2 = max(0, x), max(0, y), min(image['width'], x + w), min(image['height'], y + h)
    if 'box-reaches-out' in problems:
        say(f'{where}: box {a["bbox"]} -> {[x1, y1, x2 - x1, y2 - y1]}')
        a['bbox'] = [x1, y1, x2 - x1, y2 - y1]
    kinds = {kind for level, kind, _ in _mask_problems(a, image) if level == 'error'}
    if kinds & {'mask-bad', 'mask-size'}:
        return 'bad segmentation'
    if kinds:
        good = [p for p in a['segmentation'] if len(p) >= 6 and len(p) % 2 == 0 and all(map(_is_number, p))]
        if not good:
            return 'no polygon of three points'
        say(f'{where}: {len(a["segmentation"]) - len(good)} of {len(a["segmentation"])} polygons taken out')
        a['segmentation'] = good
    for key, value in (('area', a['bbox'][2] * a['bbox'][3]), ('iscrowd', 0)):
        if not _is_number(a.get(key)):
            say(f'{where}: {key} {value:g}')
            a[key] = value
    return ''


def write_repaired(splits: Sequence[Split], out: str | Path) -> list[str]:
    """Write ``NAME.json`` of every split and ``changes.log`` into a folder; returns lines for people.

    Raises:
        UserError: it would overwrite what it read.
    """
    out = Path(out)
    said, log = [], []
    for split in splits:
        target = out / f'{split.name}.json'
        if target.exists() and target.samefile(split.path):
            raise UserError(f'--fix {out}: {target} is what is to be repaired: name another folder')
        content = repair(split)
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content))
        log += [f'{split.name}: {line}' for line in split.changes]
        said.append(f'repaired: {target} ({len(split.changes)} changes)')
    with replacing(out / 'changes.log') as temporary:
        temporary.write_text(''.join(f'{line}\n' for line in log))
    return [*said, f'every change: {out / "changes.log"}']


def class_table(splits: Sequence[Split]) -> list[str]:
    """Objects of every class in every split, aligned."""
    counts = [split.counts() for split in splits]
    names = list(dict.fromkeys(name for c in counts for name in c))
    width = max([5, *map(len, names)])
    lines = [f'{"class":<{width}}' + ''.join(f'{s.name:>10}' for s in splits)]
    return lines + [f'{name:<{width}}' + ''.join(f'{c.get(name, 0):>10}' for c in counts) for name in names]


def _dicts(entries: Iterable) -> Iterable[dict]:
    return (e for e in entries if isinstance(e, dict))


def _hashable(value: object) -> bool:
    return isinstance(value, int | str | float)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_category(value: object) -> bool:
    return isinstance(value, dict) and _is_id(value.get('id')) and isinstance(value.get('name'), str) and bool(value['name'].strip())


def _is_size(value: object) -> bool:
    return _is_id(value) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
