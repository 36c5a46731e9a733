"""Predictions as files: COCO's json, a table, YOLO's label files; one source is in memory at a time."""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from pycocotools import mask as coco_mask

from ..structures.polygons import polygons_of
from ..structures.prediction import Categories
from ..utils.files import replacing
from ..utils.log import log
from ..utils.unique_names import UniqueNames
from .log import SortedEntries

#: What ``predict --save`` writes.
FORMATS = ('csv', 'yolo', 'polygons', 'labelme')
_COLUMNS = ('image', 'class', 'class_id', 'score', 'x1', 'y1', 'x2', 'y2')
#: Yields the images and annotations of each source; called once per file that is written.
Results = Callable[[], Iterator[tuple[list[dict], list[dict]]]]


def write_results(
    out: Path,
    entries: SortedEntries,
    info: Mapping,
    categories: Categories,
    last_id: int,
    formats: Sequence[str] = (),
) -> Path:
    """Write all results of a run: ``predictions.json``, ``panoptic.json`` of a panoptic model, other formats.

    Args:
        out: folder.
        entries: of the run's log, one for each source.
        info: about the predictions.
        categories: of the model.
        last_id: images without an id get the following ones.
        formats: of :data:`FORMATS`.

    Returns:
        the json.
    """
    path, as_coco = out / 'predictions.json', categories.as_coco()
    results = partial(_with_ids, entries, last_id)
    write_coco(path, info, as_coco, results)
    if categories.num_things is not None:
        write_coco(out / 'panoptic.json', info, as_coco, partial(_with_ids, entries, last_id, panoptic=True))
    save_as(results, info, as_coco, formats, out)
    if 'labelme' in formats:
        _write_labelme(entries, as_coco, out / 'labelme')
    return path


def _with_ids(
    entries: SortedEntries, last_id: int, panoptic: bool = False
) -> Iterator[tuple[list[dict], list[dict]]]:
    """Yield the images and annotations of each source, in the order of the sources, with their ids.

    ``panoptic``: the annotations are COCO's panoptic ones, one for each image.
    """
    image_id, annotation_id = last_id, 0
    for entry in entries:
        images, annotations = entry['images'], entry['annotations']
        for image in images:
            if image.setdefault('id', None) is None:
                image['id'] = image_id = image_id + 1
        segments = [(i.pop('panoptic_file', None), i.pop('segments_info', None)) for i in images]
        if panoptic:
            yield (
                images,
                [
                    dict(image_id=image['id'], file_name=Path(name).name, segments_info=found)
                    for image, (name, found) in zip(images, segments, strict=True)
                    if name is not None
                ],
            )
            continue
        for annotation in annotations:
            annotation_id += 1
            annotation |= dict(image_id=images[annotation['image_id']]['id'], id=annotation_id)
        yield images, annotations


def save_as(
    results: Results, info: Mapping, categories: Sequence[Mapping], formats: Sequence[str], out: Path
) -> list[Path]:
    """Write predictions in other formats.

    Args:
        results: images and annotations, as in COCO's json.
        info: about the predictions.
        categories: of COCO's json.
        formats: of :data:`FORMATS`.
        out: folder: ``predictions.csv``; ``yolo/`` with ``labels/*.txt`` and ``data.yaml``;
            ``polygons.json``, COCO's json with polygons, exact to the pixel, in place of run lengths.

    Returns:
        what was written.
    """
    written: list[Path] = []
    if 'csv' in formats:
        written.append(_write_csv(results, categories, out / 'predictions.csv'))
    if 'yolo' in formats:
        written.append(_write_yolo(results, categories, out / 'yolo'))
    if 'polygons' in formats:
        written.append(write_coco(out / 'polygons.json', info, categories, lambda: _with_polygons(results)))
    return written


def write_coco(path: Path, info: Mapping, categories: Sequence[Mapping], results: Results) -> Path:
    """Write COCO's json."""
    with replacing(path) as temporary, temporary.open('w') as file:
        file.write(f'{{"info": {json.dumps(info)}, "images": ')
        _write_list(file, (image for images, _ in results() for image in images))
        file.write(f', "categories": {json.dumps(categories)}, "annotations": ')
        _write_list(file, (a for _, annotations in results() for a in annotations))
        file.write('}')
    return path


def _write_list(file: TextIO, items: Iterator[Mapping]) -> None:
    file.write('[')
    for i, item in enumerate(items):
        file.write((', ' if i else '') + json.dumps(item))
    file.write(']')


def _with_polygons(results: Results) -> Iterator[tuple[list[dict], list[dict]]]:
    for images, annotations in results():
        for a in annotations:
            if 'segmentation' in a:
                a['segmentation'] = polygons_of(coco_mask.decode(a['segmentation']).astype(bool))
        yield images, annotations


def _write_csv(results: Results, categories: Sequence[Mapping], path: Path) -> Path:
    """Write a row for each object or class; a classification has no box."""
    names = {category['id']: category['name'] for category in categories}
    with (
        replacing(path) as temporary,
        # names of files that are not UTF-8 are written as they are
        temporary.open('w', newline='', encoding='utf-8', errors='surrogateescape') as file,
    ):
        table = csv.writer(file)
        table.writerow(_COLUMNS)
        for images, annotations in results():
            files = {image['id']: image['file_name'] for image in images}
            for a in annotations:
                x, y, w, h = a.get('bbox') or [None] * 4
                box = [None] * 4 if x is None else [x, y, x + w, y + h]
                row = [files[a['image_id']], names[a['category_id']], a['category_id'], a.get('score'), *box]
                table.writerow(['' if value is None else value for value in row])
    return path


def _write_labelme(entries: Iterable[Mapping[str, Any]], categories: Sequence[Mapping], folder: Path) -> None:
    """Write a json for each image, which names the image where it is; frames of videos are left out."""
    names = {category['id']: category['name'] for category in categories}
    for entry in entries:
        image, *others = entry['images']
        if others or 'frame' in image:
            log(f'{entry["source"]}: labelme has no videos, its frames are left out of {folder}')
            continue
        path = folder / f'{entry["stem"]}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes = [shape for i, a in enumerate(entry['annotations']) for shape in _shapes_of(a, i, names)]
        content: dict[str, Any] = dict(version='5.5.0', flags={}, shapes=shapes, imageData=None)
        content['imagePath'] = os.path.relpath(os.path.abspath(entry['source']), os.path.abspath(path.parent))
        content |= dict(imageHeight=image['height'], imageWidth=image['width'])
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding='utf-8')


def _shapes_of(annotation: Mapping[str, Any], number: int, names: Mapping[int, str]) -> Iterator[dict]:
    """Yield labelme's shapes of an object: a polygon for each part of its mask, else its rectangle."""
    same: dict[str, Any] = dict(label=names[annotation['category_id']], flags={}, mask=None, group_id=None)
    same['description'] = f'score {annotation["score"]:.3f}'
    mask = annotation.get('segmentation')
    parts = [] if mask is None else polygons_of(coco_mask.decode(mask).astype(bool))
    if not parts:
        x, y, w, h = annotation['bbox']
        yield dict(same, shape_type='rectangle', points=[[x, y], [x + w, y + h]])
    for part in parts:
        points = [[part[i], part[i + 1]] for i in range(0, len(part), 2)]
        group = number if len(parts) > 1 else None
        yield dict(same, shape_type='polygon', points=points, group_id=group)


def _write_yolo(results: Results, categories: Sequence[Mapping], folder: Path) -> Path:
    """Write a text file for each image, ``class x y w h`` relative to its size, empty without objects."""
    import yaml  # predictions themselves need no yaml

    index = {category['id']: i for i, category in enumerate(categories)}
    names = UniqueNames()
    for images, annotations in results():
        lines: dict[int, list[str]] = defaultdict(list)
        sizes = {image['id']: (image['width'], image['height']) for image in images}
        for a in annotations:
            if 'bbox' in a:
                (W, H), (x, y, w, h) = sizes[a['image_id']], a['bbox']
                values = ((x + w / 2) / W, (y + h / 2) / H, w / W, h / H)
                lines[a['image_id']].append(' '.join([str(index[a['category_id']]), *map(repr, values)]))
        for image in images:
            name = image['file_name']
            if 'frame' in image:  # of a video, whose name ends in #12
                name = f'{os.path.splitext(name)[0]}_{image["frame"]}.mp4'
            stem = names.stem(name)
            path = folder / 'labels' / f'{stem}.txt'
            if stem != os.path.splitext(name)[0]:
                log(f'{name} has its labels in {path}: another image has its name in YOLO')
            with replacing(path) as temporary:
                temporary.write_text(''.join(f'{line}\n' for line in lines[image['id']]))
    with replacing(folder / 'data.yaml') as temporary:
        classes = {i: category['name'] for i, category in enumerate(categories)}
        temporary.write_text(yaml.safe_dump(dict(names=classes), sort_keys=False, allow_unicode=True))
    return folder
