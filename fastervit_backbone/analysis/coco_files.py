"""Files of detections and of ground truth, read and checked against each other before anything is compared."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pycocotools.coco import COCO

from ..data.coco import is_box, is_number
from ..errors import UserError


def read_detections(path: str | Path) -> dict:
    """A json of tools/predict.py, or COCO's bare list of results, as a dict with ``annotations``.

    Raises:
        UserError: neither.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'no predictions at {path}: tools/predict.py writes predictions.json')
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except ValueError as error:
        raise UserError(f'{path} is broken JSON ({error}): predict again') from error
    content = dict(annotations=content) if isinstance(content, list) else content
    entries = content.get('annotations') if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(a, dict) for a in entries):
        raise UserError(f'{path} is JSON but holds no detections: expected predictions.json of tools/predict.py, or a list of COCO results')
    return content


def check_pair(detections: dict, truth: COCO, kind: str) -> None:
    """Raise UserError unless detections and ground truth belong together, and the detections have what ``kind`` needs."""
    found, names = detections['annotations'], {c['id']: c['name'] for c in truth.loadCats(truth.getCatIds())}
    for category in detections.get('categories', ()):
        if names.get(category['id'], category['name']) != category['name']:
            raise UserError(
                f'category {category["id"]} is {category["name"]!r} in the predictions and {names[category["id"]]!r} in the ground truth: '
                'predict with the data set of the ground truth in the config, so that the ids are its own'
            )
    _check_images(detections.get('images', ()), truth, {a.get('image_id') for a in found})
    for what, key, known in (('image', 'image_id', set(truth.imgs)), ('category', 'category_id', set(names))):
        strange = sorted({a.get(key) for a in found} - known, key=str)
        if strange:
            raise UserError(
                f'{what} {strange[0]} of the predictions is not in the ground truth ({len(strange)} are not): are they of one data set?'
            )
    needed = dict(score=is_number, bbox=is_box) | (dict(segmentation=bool) if kind == 'segm' else {})
    for i, a in enumerate(found):
        for key, good in needed.items():
            if not good(a.get(key)):
                remedy = ': compare boxes (--metric bbox)' if key == 'segmentation' else ': predict again'
                raise UserError(f'prediction {i} has no {key}, or a bad one, {str(a.get(key))[:40]!r}{remedy}')


def _check_images(images: Sequence[dict], truth: COCO, used: set) -> None:
    """The same id must be the same image."""
    seen = set()
    for image in images:
        if image['id'] in seen:
            raise UserError(f'image {image["id"]} is in the predictions twice: predict again into an empty folder')
        seen.add(image['id'])
        true = truth.imgs.get(image['id']) if image['id'] in used else None
        name = str(image.get('file_name', ''))
        if true is not None and PurePosixPath(name).name != PurePosixPath(str(true.get('file_name', ''))).name:
            raise UserError(
                f'image {image["id"]} is {name} in the predictions and {true.get("file_name")} in the ground truth: predict with the '
                'data set of the ground truth as test data of the config, so that the ids are its own'
            )


def read_truth(path: str | Path, kind: str = 'bbox') -> COCO:
    """A COCO json; what home-made ones leave out (``iscrowd``, ``area``) is filled in.

    Raises:
        UserError: it is none, or has no masks where they are to be compared.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
        truth, truth_annotations = COCO(), content['annotations']
        for a in truth_annotations:
            if not is_box(a['bbox']):
                raise ValueError(f'annotation {a.get("id")} has the box {a["bbox"]!r}')
            a.setdefault('iscrowd', 0)
            a.setdefault('area', a['bbox'][2] * a['bbox'][3])
        truth.dataset = dict(content, images=content['images'], categories=content['categories'])
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path} cannot be read as COCO ({type(error).__name__}: {error})') from error
    bare = [a['id'] for a in truth_annotations if not a.get('segmentation')] if kind == 'segm' else []
    if bare:
        raise UserError(f'{path}: annotation {bare[0]} has no segmentation ({len(bare)} have none): compare boxes (--metric bbox)')
    return truth
