"""Files of detections and of ground truth, read and checked against each other before anything is compared."""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pycocotools.coco import COCO

from ..datasets.coco import is_box, is_number, renumber_zero_ids
from ..utils.errors import UserError


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
        raise UserError(
            f'{path} is JSON but holds no detections: expected predictions.json of tools/predict.py, or a list of COCO results'
        )
    return content


def match_to_truth(detections: dict, truth: COCO, kind: str) -> tuple[list[dict], list[str]]:
    """Give detections the ground truth's ids of images and categories.

    Where the predictions name their images and categories (those of tools/predict.py do), names count. An image is the one with its path,
    else with the end of its path, else with its id where all ids agree with file names, else the only one with its file name. A category
    is the one with its name. Images and classes that the ground truth has not are left out.

    Args:
        detections: as :func:`read_detections` gives them; not changed.
        truth: ground truth.
        kind: 'bbox' or 'segm'.

    Returns:
        the detections, and lines for people.

    Raises:
        UserError: they do not belong together, or lack what ``kind`` needs.
    """
    found, said = detections['annotations'], []
    categories = _match_categories(detections.get('categories', ()), truth)
    images = _match_images(detections.get('images', ()), truth)
    strangers = {
        image['id']: image.get('file_name')
        for image in detections.get('images', ())
        if image['id'] not in images
    }
    if strangers and not images:
        number, name = next(iter(strangers.items()))
        raise UserError(
            f'image {number}, {name}, of the predictions is not in the ground truth, nor is any of the others: are they of one data set?'
        )
    unknown = {c['id']: c['name'] for c in detections.get('categories', ()) if c['id'] not in categories}
    if any(a.get('category_id') in unknown for a in found):
        said.append(
            f'classes of the predictions that are not in the ground truth, left out: {", ".join(unknown.values())}'
        )
        found = [a for a in found if a.get('category_id') not in unknown]
    missing = len(truth.imgs) - len(images)
    if images and missing:
        said.append(
            f'{missing} of {len(truth.imgs)} images were not predicted on: their objects count as missed'
        )
    if strangers:
        name = next(iter(strangers.values()))
        said.append(
            f'{len(strangers)} predicted images are not in the ground truth, and left out ({name}{", ..." * (len(strangers) > 1)})'
        )
        found = [a for a in found if a.get('image_id') not in strangers]
    if images or categories:
        found = [dict(a) for a in found]
        for a in found:
            for key, ids in (('image_id', images), ('category_id', categories)):
                a[key] = ids.get(a.get(key), a.get(key))
    for what, key, known in (
        ('image', 'image_id', set(truth.imgs)),
        ('category', 'category_id', set(truth.cats)),
    ):
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
                raise UserError(
                    f'prediction {i} has no {key}, or a bad one, {str(a.get(key))[:40]!r}{remedy}'
                )
    return found, said


def _match_categories(categories: Sequence[dict], truth: COCO) -> dict[int, int]:
    """Id in the predictions -> id in the ground truth, of the categories that both have."""
    by_name = {c['name']: c['id'] for c in truth.cats.values()}
    matched = {c['id']: by_name[c['name']] for c in categories if c['name'] in by_name}
    if categories and not matched:
        raise UserError(
            f'no class of the predictions ({", ".join(c["name"] for c in categories[:5])}) is in the ground truth '
            f'({", ".join(list(by_name)[:5])}): are they of one data set?'
        )
    return matched


def _name(image: Mapping) -> str:
    """The last part of an image's file name."""
    return PurePosixPath(str(image.get('file_name', ''))).name


def _match_images(images: Sequence[dict], truth: COCO) -> dict[int, int]:
    """Id in the predictions -> id in the ground truth, of the images that both have."""
    paths = {number: str(image.get('file_name', '')) for number, image in truth.imgs.items()}
    by_path = {path: number for number, path in paths.items()}
    by_name: dict[str, list[int]] = {}
    for number, path in paths.items():
        by_name.setdefault(PurePosixPath(path).name, []).append(number)
    # whether the predictions' ids can be the ground truth's own: no image is called otherwise there
    own = all(_name(image) == PurePosixPath(paths.get(image['id'], '')).name for image in images)
    matched: dict[int, int] = {}
    for image in images:
        number, path = image['id'], str(image.get('file_name', ''))
        if number in matched:
            raise UserError(f'image {number} is in the predictions twice: predict again into an empty folder')
        alike = by_name.get(_name(image), [])
        below = [
            n for n in alike if f'/{path}'.endswith(f'/{paths[n]}') or f'/{paths[n]}'.endswith(f'/{path}')
        ]
        if path in by_path:
            matched[number] = by_path[path]
        elif len(below) == 1:
            matched[number] = below[0]
        elif own and number in alike:
            matched[number] = number
        elif len(alike) == 1:
            matched[number] = alike[0]
        elif alike:
            raise UserError(
                f'{path} of the predictions can be {len(alike)} images of the ground truth, {paths[alike[0]]} and others: '
                'predict on the folder that their names are below, or with --annotations and the ground truth'
            )
    twice = Counter(matched.values()).most_common(1)
    if twice and twice[0][1] > 1:
        raise UserError(
            f'{truth.imgs[twice[0][0]]["file_name"]} of the ground truth is in the predictions {twice[0][1]} times: predict on one folder, '
            'or with --annotations and the ground truth'
        )
    return matched


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
        renumber_zero_ids(truth_annotations)
        truth.dataset = dict(content, images=content['images'], categories=content['categories'])
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path} cannot be read as COCO ({type(error).__name__}: {error})') from error
    bare = [a['id'] for a in truth_annotations if not a.get('segmentation')] if kind == 'segm' else []
    if bare:
        raise UserError(
            f'{path}: annotation {bare[0]} has no segmentation ({len(bare)} have none): compare boxes (--metric bbox)'
        )
    return truth
