"""Predictions as other programs read them: a table, and YOLO's label files."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..utils.files import replacing

#: What ``predict --save`` writes.
FORMATS = ('csv', 'yolo')
_COLUMNS = ('image', 'class', 'class_id', 'score', 'x1', 'y1', 'x2', 'y2')


def save_as(content: Mapping, formats: Sequence[str], out: Path) -> list[Path]:
    """Write the predictions of a COCO json in other formats.

    Args:
        content: the json: ``images``, ``categories``, ``annotations``.
        formats: of :data:`FORMATS`.
        out: folder: ``predictions.csv``, and ``yolo/`` with ``labels/*.txt`` and ``data.yaml``.

    Returns:
        what was written.
    """
    written: list[Path] = []
    if 'csv' in formats:
        written.append(_write_csv(content, out / 'predictions.csv'))
    if 'yolo' in formats:
        written.append(_write_yolo(content, out / 'yolo'))
    return written


def _write_csv(content: Mapping, path: Path) -> Path:
    """Write a row for each object or class; a classification has no box."""
    names = {category['id']: category['name'] for category in content['categories']}
    files = {image['id']: image['file_name'] for image in content['images']}
    with replacing(path) as temporary, temporary.open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS)
        for a in content['annotations']:
            x, y, w, h = a.get('bbox') or [None] * 4
            box = [None] * 4 if x is None else [x, y, x + w, y + h]
            row = [files[a['image_id']], names[a['category_id']], a['category_id'], a.get('score'), *box]
            table.writerow(['' if value is None else value for value in row])
    return path


def _write_yolo(content: Mapping, folder: Path) -> Path:
    """Write a text file for each image, ``class x y w h`` relative to its size, empty without objects."""
    import yaml  # predictions themselves need no yaml

    index = {category['id']: i for i, category in enumerate(content['categories'])}
    lines: dict[int, list[str]] = defaultdict(list)
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    for a in content['annotations']:
        if 'bbox' in a:
            (W, H), (x, y, w, h) = sizes[a['image_id']], a['bbox']
            values = ((x + w / 2) / W, (y + h / 2) / H, w / W, h / H)
            lines[a['image_id']].append(' '.join([str(index[a['category_id']]), *map(repr, values)]))
    for image in content['images']:
        name = image['file_name'].replace('#', '_')  # a frame of a video
        path = folder / 'labels' / Path(name).with_suffix('.txt')
        with replacing(path) as temporary:
            temporary.write_text(''.join(f'{line}\n' for line in lines[image['id']]))
    with replacing(folder / 'data.yaml') as temporary:
        names = {i: category['name'] for i, category in enumerate(content['categories'])}
        temporary.write_text(yaml.safe_dump(dict(names=names), sort_keys=False, allow_unicode=True))
    return folder
