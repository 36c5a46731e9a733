"""Read files of detections and ground truth, and check that they belong together."""

import contextlib
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pycocotools.coco import COCO

from ..datasets.coco import complete_for_evaluation, is_box, is_number, read_coco
from ..datasets.rules import COCO_RULES
from ..datasets.validation.coco_masks import polygon_violation
from ..utils.errors import UserError
from ..utils.files import read_json


def read_detections(path: str | Path) -> dict:
    """Read a JSON file of fastervit predict, or COCO's plain list of results.

    Returns:
        a dict with ``annotations``; a file of fastervit predict also has ``images`` and ``categories``.

    Raises:
        UserError: the file is missing or is neither.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'no predictions at {path}: fastervit predict writes predictions.json')
    content = read_json(path, 'predict again')
    content = dict(annotations=content) if isinstance(content, list) else content
    entries = content.get('annotations') if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(a, dict) for a in entries):
        raise UserError(
            f'{path} is JSON but contains no detections: expected predictions.json of fastervit predict, '
            'or a list of COCO results'
        )
    return content


def match_to_truth(detections: dict, truth: COCO, kind: str) -> tuple[list[dict], list[str]]:
    """Translate the image and category ids of detections to those of the ground truth.

    Where the predictions list their images and categories (as fastervit predict does), these are matched by
    name: an image by its path, else by the end of its path, else by its id if all ids agree with the file
    names, else by a file name that is unique; a category by its name. Detections of images and classes that
    the ground truth does not have are removed.

    Args:
        detections: as returned by :func:`read_detections`; not changed.
        truth: ground truth.
        kind: 'bbox' or 'segm'.

    Returns:
        the detections, and notes for the user.

    Raises:
        UserError: the files do not belong together, or detections lack what ``kind`` needs.
    """
    found, notes = detections['annotations'], []
    images, categories = detections.get('images', ()), detections.get('categories', ())
    category_ids = _match_categories(categories, truth)
    image_ids = _match_images(images, truth)
    unmatched = {image['id']: image.get('file_name') for image in images if image['id'] not in image_ids}
    if unmatched and not image_ids:
        image_id, name = next(iter(unmatched.items()))
        raise UserError(
            f'image {image_id} ({name}) of the predictions is not in the ground truth, and neither is any '
            'other: are both files of the same data set?'
        )
    unknown = {c['id']: c['name'] for c in categories if c['id'] not in category_ids}
    if any(a.get('category_id') in unknown for a in found):
        names = ', '.join(unknown.values())
        notes.append(f'removed: predictions of classes that are not in the ground truth: {names}')
    missing = len(truth.imgs) - len(image_ids)
    if image_ids and missing:
        notes.append(
            f'{missing} of {len(truth.imgs)} images have no predictions: their objects count as missed'
        )
    if unmatched:
        name = next(iter(unmatched.values()))
        more = ', ...' if len(unmatched) > 1 else ''
        notes.append(
            f'removed: predictions of {len(unmatched)} images that are not in the ground truth ({name}{more})'
        )
    is_kept = [a.get('category_id') not in unknown and a.get('image_id') not in unmatched for a in found]
    found = [dict(a) for a, kept in zip(found, is_kept, strict=True) if kept]
    for a in found:
        for key, ids in (('image_id', image_ids), ('category_id', category_ids)):
            a[key] = ids.get(a.get(key), a.get(key))
    _check_detections(found, truth, kind)
    return found, notes


def _check_detections(found: Sequence[dict], truth: COCO, kind: str) -> None:
    """Raise unless the ids are the ground truth's, and all detections have scores, boxes and needed masks."""
    for key, known in (('image_id', truth.imgs), ('category_id', truth.cats)):
        foreign = sorted({a[key] for a in found} - set(known), key=str)
        if foreign:
            raise UserError(
                f'{key.removesuffix("_id")} {foreign[0]} of the predictions is not in the ground truth '
                f'({len(foreign)} are not): are both files of the same data set?'
            )
    checks = dict(score=is_number) | (dict(segmentation=bool) if kind == 'segm' else {})
    for i, a in enumerate(found):
        needed = checks if not a.get('bbox') and a.get('segmentation') else checks | dict(bbox=is_box)
        for key, is_valid in needed.items():
            if not is_valid(a.get(key)):
                remedy = 'compare boxes (--metric bbox)' if key == 'segmentation' else 'predict again'
                raise UserError(f'prediction {i} has no valid {key} ({str(a.get(key))[:40]!r}): {remedy}')


def _match_categories(categories: Sequence[dict], truth: COCO) -> dict[int, int]:
    """Map ids of the predictions to ids of the ground truth, for the categories that both have."""
    by_name = {c['name']: c['id'] for c in truth.cats.values()}
    matched = {c['id']: by_name[c['name']] for c in categories if c['name'] in by_name}
    if categories and not matched:
        predicted, true = (', '.join(list(names)[:5]) for names in ((c['name'] for c in categories), by_name))
        raise UserError(
            f'no class of the predictions ({predicted}) is in the ground truth ({true}): '
            'are both files of the same data set?'
        )
    return matched


def _path(image: Mapping) -> PurePosixPath:
    return PurePosixPath(str(image.get('file_name', '')))


def _is_end_of(short: PurePosixPath, path: PurePosixPath) -> bool:
    return path.parts[-len(short.parts) :] == short.parts


def _match_images(images: Sequence[dict], truth: COCO) -> dict[int, int]:
    """Map ids of the predictions to ids of the ground truth, for the images that both have."""
    paths = {image_id: _path(image) for image_id, image in truth.imgs.items()}
    by_path = {path: image_id for image_id, path in paths.items()}
    by_name: dict[str, list[int]] = defaultdict(list)
    for image_id, path in paths.items():
        by_name[path.name].append(image_id)
    ids_agree = all(_path(image).name == paths.get(image['id'], PurePosixPath()).name for image in images)
    matched: dict[int, int] = {}
    for image in images:
        image_id, path = image['id'], _path(image)
        if image_id in matched:
            raise UserError(f'image {image_id} is in the predictions twice: predict into an empty folder')
        candidates = by_name.get(path.name, [])
        by_end = [n for n in candidates if _is_end_of(path, paths[n]) or _is_end_of(paths[n], path)]
        if path in by_path:
            candidates = [by_path[path]]
        elif len(by_end) == 1:
            candidates = by_end
        elif ids_agree and image_id in candidates:
            candidates = [image_id]
        if len(candidates) == 1:
            matched[image_id] = candidates[0]
        elif candidates:
            raise UserError(
                f'{path} of the predictions matches {len(candidates)} images of the ground truth, '
                f'such as {paths[candidates[0]]}: predict on the folder that their names are relative to, '
                'or with --annotations and the ground truth'
            )
    for image_id, count in Counter(matched.values()).most_common(1):
        if count > 1:
            raise UserError(
                f'{paths[image_id]} of the ground truth is in the predictions {count} times: '
                'predict on one folder, or with --annotations and the ground truth'
            )
    return matched


def read_truth(path: str | Path, kind: str = 'bbox') -> COCO:
    """Read a COCO JSON file and fill in what home-made ones often lack (``iscrowd``, ``area``).

    Raises:
        UserError: the file is not COCO, or lacks masks although ``kind`` is 'segm'.
    """
    path = Path(path)
    content = read_coco(path)
    try:
        truth, annotations = COCO(), content['annotations']
        for a in annotations:
            if not is_box(a['bbox']):
                raise ValueError(f'annotation {a.get("id")} has the box {a["bbox"]!r}')
            if not is_number(a.get('area')):
                a['area'] = a['bbox'][2] * a['bbox'][3]
        complete_for_evaluation(annotations)
        truth.dataset = dict(content, images=content['images'], categories=content['categories'])
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path} cannot be read as COCO ({type(error).__name__}: {error})') from error
    without_mask = [a['id'] for a in annotations if not a.get('segmentation')] if kind == 'segm' else []
    if without_mask:
        raise UserError(
            f'{path}: annotation {without_mask[0]} has no segmentation ({len(without_mask)} have none): '
            'compare boxes (--metric bbox)'
        )
    if kind == 'segm':
        _check_polygons(path, annotations)
    return truth


def _check_polygons(path: Path, annotations: Sequence[dict]) -> None:
    """Raise UserError where pycocotools would fail, in the middle of an evaluation."""
    for a in annotations:
        shape = a['segmentation']
        rule = next(filter(None, map(polygon_violation, shape)), '') if isinstance(shape, list) else ''
        if rule:
            raise UserError(
                f'{path}: annotation {a.get("id")} has {COCO_RULES[rule].meaning}: '
                'fastervit check-data --fix removes them'
            )
