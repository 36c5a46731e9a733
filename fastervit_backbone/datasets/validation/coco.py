"""A COCO json looked through from end to end: structure, ids, categories, images, boxes, masks."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...utils.errors import UserError
from ..coco import is_box, is_number, read_coco
from ..images import open_image, upright_size
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
        looked: path of an image below the folder -> what :func:`look` said of it.
        changes: what :func:`~fastervit_backbone.datasets.validation.repair.repair` did, a line each.
    """

    name: str
    path: Path
    images: Path
    content: dict
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    looked: dict[str, tuple] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def counts(self) -> Counter:
        """Objects of each class, by name; crowds count."""
        names = {
            c['id']: str(c['name'])
            for c in dicts(self.content['categories'])
            if hashable(c.get('id')) and 'name' in c
        }
        found = Counter({name: 0 for name in names.values()})
        found.update(
            names[a['category_id']]
            for a in dicts(self.content['annotations'])
            if hashable(a.get('category_id')) and a['category_id'] in names
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
    return Split(name, path, images, read_coco(path))


def audit(
    split: Split, *, read_images: bool = True, progress: Callable[[Iterable, int], Iterable] | None = None
) -> list[Finding]:
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
    for name in sorted(name for name, count in split.counts().items() if not count):
        found.add('warning', 'class-unused', 'classes without an object', name)
    split.findings = found.findings()
    return split.findings


def _audit_categories(entries: Sequence, found: Collector) -> dict:
    categories: dict = {}
    lower: dict[str, str] = {}
    for i, c in enumerate(entries):
        if not is_category(c):
            found.add(
                'error',
                'category-bad',
                'categories without a whole number as id and a printable name',
                f'entry {i}',
            )
            continue
        if c['id'] in categories:
            found.add(
                'error',
                'category-id-twice',
                'category ids that occur twice: give each class its own',
                c['id'],
            )
        name = c['name']
        if name in categories.values():
            found.add(
                'error', 'category-name-twice', 'class names that occur twice: make them one category', name
            )
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
        found.add(
            'note',
            'category-id-zero',
            'a category has id 0, which is fine here (some tools take it for background)',
        )
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
            or not is_id(entry.get('id'))
            or not isinstance(entry.get('file_name'), str)
            or not entry['file_name']
        ):
            found.add(
                'error', 'image-bad', 'images without a whole number as id and a file_name', f'entry {i}'
            )
            continue
        if entry['id'] in images:
            found.add(
                'error',
                'image-id-twice',
                'image ids that occur twice: the annotations of one would go to the other',
                entry['id'],
            )
            continue
        names[entry['file_name']] += 1
        if names[entry['file_name']] == 2:
            found.add('error', 'image-name-twice', 'files that are listed twice', entry['file_name'])
        if not (is_size(entry.get('width')) and is_size(entry.get('height'))):
            found.add(
                'error',
                'image-size-bad',
                'images without width and height as whole numbers from 1',
                entry['file_name'],
            )
        images[entry['id']] = entry
    if not images:
        found.add('error', 'no-images', 'no images')
    listed = list(images.values())
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda e: look(split.images / e['file_name'], read_images), listed)
        for entry, seen in zip(listed, progress(results, len(listed)) if progress else results, strict=True):
            name, (problem, size, digest) = entry['file_name'], seen
            if read_images:
                split.looked[name] = seen
            if problem:
                level, kind, message = problem
                found.add(level, kind, message, name)
            if digest:
                split.hashes.setdefault(digest, []).append(name)
            if (
                size
                and is_size(entry.get('width'))
                and is_size(entry.get('height'))
                and size != (entry['width'], entry['height'])
            ):
                turned = size[::-1] == (entry['width'], entry['height'])
                found.add(
                    'error',
                    'image-size-differs',
                    'images of another size than the json says'
                    + (': it has the size before EXIF turns them' if turned else ''),
                    f'{name}: {size[0]}x{size[1]}, json {entry["width"]}x{entry["height"]}',
                )
    for same in split.hashes.values():
        if len(set(same)) > 1:
            found.add(
                'warning',
                'image-content-twice',
                'files with the same content',
                ' = '.join(sorted(set(same))[:3]),
            )
    return images


def look(
    path: Path, read: bool = True
) -> tuple[tuple[str, str, str] | None, tuple[int, int] | None, str | None]:
    """(what is wrong, size as training sees it, hash of the content)."""
    if not path.is_file():
        return ('error', 'image-missing', 'images that are listed and not there'), None, None
    if not read:
        return None, None, None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with open_image(path) as image:
            size = upright_size(image)
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
        if not is_id(a.get('id')):
            found.add('error', 'annotation-id-bad', 'annotations without a whole number as id', f'entry {i}')
        elif a['id'] in ids:
            found.add(
                'error',
                'annotation-id-twice',
                'annotation ids that occur twice: evaluation mixes them up',
                where,
            )
        else:
            ids.add(a['id'])
            if a['id'] == 0:
                message = 'annotations with the id 0, which pycocotools takes for "no object": AP is too low'
                found.add('error', 'annotation-id-zero', message, where)
        image = images.get(a.get('image_id')) if hashable(a.get('image_id')) else None
        if image is None:
            found.add('error', 'annotation-image-unknown', 'annotations of images that are not listed', where)
        else:
            used.add(a['image_id'])
        if not hashable(a.get('category_id')) or a.get('category_id') not in categories:
            found.add(
                'error', 'annotation-category-unknown', 'annotations of categories that are not listed', where
            )
        crowds += a.get('iscrowd') == 1
        for level, kind, message in box_problems(a.get('bbox'), image):
            found.add(level, kind, message, where)
        for level, kind, message in mask_problems(a, image):
            found.add(level, kind, message, where)
        for key in ('area', 'iscrowd'):
            if key not in a:
                found.add(
                    'warning',
                    f'{key}-missing',
                    f'annotations without {key}, which mmdet or pycocotools read',
                    where,
                )
        if 'area' in a and not is_number(a['area']):
            found.add('error', 'area-bad', 'areas that are no number', where)
    if not entries:
        found.add('error', 'no-annotations', 'no annotations: nothing to learn or to score')
    if crowds:
        found.add(
            'note',
            'crowds',
            f'{crowds} crowds: evaluation counts what is in them neither right nor wrong, training leaves them out',
        )
    bare = [image['file_name'] for key, image in images.items() if key not in used]
    if bare:
        found.add(
            'note',
            'image-empty',
            f'{len(bare)} of {len(images)} images have no objects: they are kept and teach what is background',
            bare[0],
        )


def box_problems(box: object, image: Mapping | None) -> list[tuple[str, str, str]]:
    """(level, kind, message) of what is wrong with a box; ``image``: its entry, where it has one."""
    if not (isinstance(box, list) and is_box(box)):
        return [('error', 'box-bad', 'boxes that are not four finite numbers x, y, width, height')]
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return [
            ('error', 'box-degenerate', 'boxes without area (x, y, width, height: not the second corner)')
        ]
    if image is None or not (is_size(image.get('width')) and is_size(image.get('height'))):
        return []
    W, H = image['width'], image['height']
    if x >= W or y >= H or x + w <= 0 or y + h <= 0:
        return [('error', 'box-outside', 'boxes wholly outside of their images')]
    if x < -SLACK or y < -SLACK or x + w > W + SLACK or y + h > H + SLACK:
        return [('warning', 'box-reaches-out', 'boxes that reach out of their images: training cuts them')]
    return [('warning', 'box-tiny', 'boxes of less than a pixel')] if w < 1 or h < 1 else []


def mask_problems(a: Mapping, image: Mapping | None) -> list[tuple[str, str, str]]:
    """As :func:`box_problems`, of an annotation's segmentation."""
    mask = a.get('segmentation')
    if mask is None or mask == []:
        return [('note', 'mask-none', 'annotations without a segmentation: enough for boxes, not for masks')]
    if isinstance(mask, dict):
        size, counts = mask.get('size'), mask.get('counts')
        if not (isinstance(size, list) and len(size) == 2 and isinstance(counts, str | list)):
            return [('error', 'mask-bad', 'segmentations that are neither polygons nor run-length codes')]
        if image is not None and size != [image.get('height'), image.get('width')]:
            return [('error', 'mask-size', 'run-length codes of another size than their images')]
        if isinstance(counts, list) and not (
            all(isinstance(c, int) and c >= 0 for c in counts) and sum(counts) == size[0] * size[1]
        ):
            return [('error', 'mask-bad', 'segmentations that are neither polygons nor run-length codes')]
        return []
    if not isinstance(mask, list) or not all(isinstance(p, list) for p in mask):
        return [('error', 'mask-bad', 'segmentations that are neither polygons nor run-length codes')]
    if any(len(p) % 2 or not all(map(is_number, p)) for p in mask):
        return [('error', 'polygon-bad', 'polygons that are not pairs of finite numbers')]
    if any(len(p) < 6 for p in mask):
        return [('error', 'polygon-short', 'polygons of fewer than three points, which end mask evaluation')]
    return []


def dicts(entries: Iterable) -> Iterable[dict]:
    """Those that are records."""
    return (e for e in entries if isinstance(e, dict))


def hashable(value: object) -> bool:
    """Whether a value of a json can be looked up."""
    return isinstance(value, int | str | float)


def is_id(value: object) -> bool:
    """A whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_category(value: object) -> bool:
    """A record with a whole number as id and a name of printable characters; ``{{`` would mean something in a config."""
    name = value.get('name') if isinstance(value, dict) else None
    return (
        isinstance(name, str)
        and is_id(value.get('id'))
        and bool(name.strip())
        and name.isprintable()
        and '{{' not in name
    )


def is_size(value: object) -> bool:
    """A whole number from 1."""
    return is_id(value) and value > 0
