"""Check the data of a config before anything is built: the first error stops the run, on one line."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...utils.errors import UserError
from ...utils.files import is_file, read_text
from ...utils.suggest import did_you_mean
from ..coco import read_coco
from ..download_hints import HOW_TO_GET_COCO, HOW_TO_GET_VOC
from ..pixel_format import COLOR, PixelFormat
from ..rules import COCO_RULES, LABEL_MAP_RULES, VOC_RULES, Violation, stops_training
from ..voc_xml import read_xml
from .coco import image_file_violations
from .coco_entries import content_violations
from .image_files import look
from .label_maps import LabelValues, class_violations, read_pairs, split_violations, value_violations

#: More images or label maps than this are sampled evenly: ADE20K's 20210 would take minutes on two cores.
READ_AT_MOST = 5000
#: Of image files; unreadable ones are replaced by others while training.
_STOPS = ('image-size-differs', 'image-unsupported')


def check_coco(
    ann_file: str | Path,
    image_dir: str | Path,
    classes: Sequence[str] | None = None,
    *,
    need_objects: bool = False,
    need_masks: bool = False,
    remedy: str = HOW_TO_GET_COCO,
    content: dict | None = None,
    pixels: PixelFormat = COLOR,
) -> int:
    """Check that annotations and images exist, belong together and break no rule.

    Of the images, at most :data:`READ_AT_MOST`, evenly spaced, only what gives their size is read.

    Args:
        ann_file: COCO json.
        image_dir: folder of its ``file_name``.
        classes: names that the json's categories must have; None takes any.
        need_objects: images without objects will be left out, so some must have one.
        need_masks: every object must have a segmentation.
        remedy: what to do when a file is missing.
        content: of ``ann_file``, where it has been read.
        pixels: how images are read.

    Returns:
        the number of images.

    Raises:
        UserError: one line with the place, the value and what to do.
    """
    ann_file, image_dir = Path(os.path.abspath(ann_file)), Path(os.path.abspath(image_dir))
    if not ann_file.is_file():
        raise UserError(f'no annotations at {ann_file}: {remedy}')
    if not image_dir.is_dir():
        raise UserError(f'no image folder at {image_dir}: {remedy}')
    content = read_coco(ann_file) if content is None else content
    command = shlex.join(['fastervit', 'check-data', str(ann_file), '--images', str(image_dir)])
    list_all = f'`{command}` lists all problems'
    remedy_of_rules = f'{list_all}; with --fix OUT it also writes a repaired copy'
    _stop_at_first(ann_file, content_violations(content), remedy_of_rules)
    images, annotations = content['images'], content['annotations']
    _check_images(ann_file, image_dir, images, list_all, remedy_of_rules, pixels)
    without_mask = [a for a in annotations if not a.get('segmentation')] if need_masks else []
    if without_mask:
        raise UserError(
            f'{ann_file}: {len(without_mask)} of {len(annotations)} annotations have no segmentation, from '
            f'which masks are learned (the first has id {without_mask[0]["id"]}): add them, or train a '
            'detector of boxes only'
        )
    if classes is not None:
        _check_classes(ann_file, [c['name'] for c in content['categories']], classes)
    if need_objects and not _has_objects(content, classes):
        raise UserError(
            f'{ann_file}: 0 of {len(images)} images have an object of the classes, and images without one '
            'are left out'
        )
    return len(images)


def _check_images(
    ann_file: Path,
    image_dir: Path,
    images: Sequence[dict],
    list_all: str,
    remedy_of_rules: str,
    pixels: PixelFormat,
) -> None:
    missing = [i['file_name'] for i in images if not is_file(image_dir / i['file_name'])]
    if missing:
        example = f'{len(missing)} of {len(images)}, the first is {missing[0]} in {image_dir}'
        _stop_at_first(ann_file, [Violation(COCO_RULES['image-missing'], example)], list_all)
    for entry in images[:: -(-len(images) // READ_AT_MOST) or 1]:
        file = look(image_dir / entry['file_name'], 'size', pixels)
        found = [v for v in image_file_violations(entry, file) if v.rule.id in _STOPS]
        _stop_at_first(ann_file, found, remedy_of_rules)


def _has_objects(content: Mapping, classes: Sequence[str] | None) -> bool:
    wanted = {c['id'] for c in content['categories'] if classes is None or c['name'] in classes}
    return any(a['category_id'] in wanted and not a.get('iscrowd') for a in content['annotations'])


def _check_classes(path: Path, existing: list[str], classes: Sequence[str]) -> None:
    missing = [c for c in classes if c not in existing]
    if missing:
        raise UserError(
            f'{path} has no category {missing[0]!r} ({len(missing)} of the {len(classes)} classes of the '
            f'config are not in it); it has {", ".join(map(repr, existing[:20]))}'
            f'{did_you_mean(missing[0], existing)}: set metainfo.classes of the data sets to those, the '
            'heads follow'
        )
    order = [name for name in existing if name in classes]
    if order != list(classes):  # mmdet numbers labels in the file's order, whatever the order of the classes
        raise UserError(
            f'{path} lists the classes in another order than {list(classes)}, and its order determines the '
            f'labels: write {order}'
        )


def check_label_maps(
    pairs: Sequence[tuple[str, str]],
    classes: Sequence[str],
    *,
    reduce_zero_label: bool = False,
    label_map: Mapping[int, int] | None = None,
    pixels: PixelFormat = COLOR,
) -> str | None:
    """Check that every image has a label map of its size which holds labels of the classes only.

    Args:
        pairs: (image file, label map file) of every image.
        classes: names; label i of the loaded map is ``classes[i]``.
        reduce_zero_label: 0 in the file is ignored and 1 is the first class, as in ADE20K.
        label_map: what a loaded label is turned into, after ``reduce_zero_label``.
        pixels: how images are read.

    Returns:
        a line where only a sample of the maps was read, else None.

    Raises:
        UserError: one line with the first wrong file, the value and what to do.
    """
    values = LabelValues(classes, reduce_zero_label, label_map=label_map or {})
    folder = Path(os.path.commonpath([os.path.dirname(os.path.abspath(label)) for _, label in pairs]))
    _stop_at_first(folder, class_violations(values))
    missing = [label for _, label in pairs if not os.path.isfile(label)]
    if missing:
        example = f'{len(missing)} of {len(pairs)}, the first is {missing[0]}'
        remedy = 'write it, or correct seg_map_suffix and data_prefix.seg_map_path of the data set'
        _stop_at_first(folder, [Violation(LABEL_MAP_RULES['label-missing'], example)], remedy)
    step = -(-len(pairs) // READ_AT_MOST)
    sample = [(Path(image), Path(label)) for image, label in pairs[::step]]
    found = np.zeros(2**16, np.int64)
    names = [os.path.relpath(os.path.abspath(label), folder) for _, label in sample]
    allowed = values.allowed()
    value_remedy = (
        f'the {len(classes)} classes have {values.range()}: set ignore_index in a LabelMapDataset if the '
        'value means "ignored", else correct metainfo.classes'
    )
    for name, pair in zip(names, read_pairs(sample, names, deep=False, pixels=pixels), strict=True):
        image_remedy = 'write or unpack it again, or remove it'
        _stop_at_first(folder, pair.violations, image_remedy if pair.counts is None else 'write it again')
        if pair.counts is not None:
            found[: len(pair.counts)] += pair.counts
            unknown = value_violations(name, np.flatnonzero(pair.counts), allowed)
            _stop_at_first(folder, unknown, value_remedy)
    _stop_at_first(folder, split_violations(found, values))
    return None if step == 1 else f'label maps: {len(sample)} of {len(pairs)} were checked and are valid'


def check_voc(root: str | Path, ann_file: str, year_dir: str, classes: Sequence[str] | None = None) -> int:
    """Check a split's list, annotations and images; no image is opened.

    Args:
        root: the VOCdevkit folder.
        ann_file: the split's list of names, from ``root``.
        year_dir: the folder that holds ``JPEGImages`` and ``Annotations``, from ``root``.
        classes: names of which at least one must be in the annotations; None takes any.

    Returns:
        the number of images.

    Raises:
        UserError: one line with the place, the value and what to do.
    """
    root = Path(os.path.abspath(root))
    path = root / ann_file
    if not path.is_file():
        raise UserError(f'no image list at {path}: {HOW_TO_GET_VOC}')
    folder, names = root / year_dir, read_text(path).splitlines()
    for part, suffix in (('JPEGImages', '.jpg'), ('Annotations', '.xml')):
        missing = [name + suffix for name in names if not (folder / part / f'{name}{suffix}').is_file()]
        missing = [] if any(map(_has_columns, names)) else missing
        if missing:
            rule = VOC_RULES['image-missing' if suffix == '.jpg' else 'xml-missing']
            example = f'{len(missing)} of {len(names)}, the first is {missing[0]} in {folder / part}'
            _stop_at_first(path, [Violation(rule, example)], HOW_TO_GET_VOC)
    command = shlex.join(['fastervit', 'check-data', str(folder)])
    objects: Counter[str] = Counter()
    _stop_at_first(path, _voc_violations(folder, names, objects), f'`{command}` lists all problems')
    existing = sorted(objects)
    if classes is not None and not set(existing) & set(classes):
        hint = next((hint for c in classes if (hint := did_you_mean(c, existing))), '')
        raise UserError(
            f'{path}: no object of the classes {list(classes)[:20]} in {len(names)} annotations, which have '
            f'{existing[:20]}{hint}: set metainfo.classes of the data sets to those'
        )
    return len(names)


def _has_columns(line: str) -> bool:
    """Whether a line of a list is more than a name: mmdet takes whole lines as names."""
    return line != line.strip() or (len(line.split()) > 1 and line.split()[-1] in ('1', '-1', '0'))


def _voc_violations(folder: Path, names: Sequence[str], objects: Counter[str]) -> Iterator[Violation]:
    """Find what is wrong with a list and its annotation files; counts the objects of each class."""
    if not names:
        yield Violation(VOC_RULES['no-images'])
        return
    yield from (Violation(VOC_RULES['list-bad'], f'the line {n!r}') for n in names if _has_columns(n))
    for name in names:
        file = read_xml(folder / 'Annotations' / f'{name}.xml', f'{name}.xml')
        yield from file.violations
        objects.update(label for label, _, _ in file.objects)
    if not objects:
        yield Violation(VOC_RULES['no-annotations'])


def _stop_at_first(place: Path, violations: Iterable[Violation], remedy: str = '') -> None:
    for rule, example in stops_training(violations):
        text = f'{place}: {rule.meaning}' + (f' ({example})' if example else '')
        raise UserError(text + (f': {remedy}' if remedy else ''))
