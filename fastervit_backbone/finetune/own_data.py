"""Read a user's data set, as far as training needs to know it, and refuse one with errors."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.images import images_below, open_image, upright_size
from ..datasets.validation.coco import check_coco_split, read_split
from ..datasets.validation.compare import compare_splits
from ..datasets.validation.findings import Finding, overlap
from ..datasets.validation.folders import FolderSplit, check_folder_split, compare_folders
from ..datasets.validation.label_maps import LabelMapSplit, LabelValues, check_label_map_split
from ..datasets.validation.rules import TOLERATED
from ..utils.errors import UserError

#: Image files are opened only if a split has at most this many; tools/check_data.py opens all.
OPEN_UP_TO = 3000
#: Sample of label-map images whose sizes give the median.
_SAMPLED_SIZES = 200
_SPLITS = ('train', 'val')


@dataclass
class OwnData:
    """A training and a validation split.

    Attributes:
        kind: 'coco', 'labels' or 'folders'.
        train: COCO json, folder of label maps, or folder of class folders.
        val: likewise.
        image_folders: of train and of val.
        classes: names.
        has_masks: whether every object has a mask ('coco').
        num_images: training images.
        num_empty: training images without objects ('coco').
        median_size: (height, width), the median over the training images.
        crowd: objects of an image, that of twenty which has the most ('coco').
        image_suffix: file suffix of the images ('labels').
        ignore_index: value of ignored pixels ('labels').
        findings: of the check.
    """

    kind: str
    train: Path
    val: Path
    image_folders: tuple[Path, Path]
    classes: list[str]
    has_masks: bool
    num_images: int
    num_empty: int
    median_size: tuple[int, int]
    crowd: int = 0
    image_suffix: str = ''
    ignore_index: int = 255
    findings: Sequence[Finding] = ()


def read_own_data(
    train: str | Path,
    val: str | Path,
    images: Sequence[str | Path],
    classes: Sequence[str] | None,
    ignore: int | None,
) -> OwnData:
    """Check both splits and stop at errors that would break training.

    Args:
        train: COCO json, folder of label maps, or folder of class folders.
        val: likewise.
        images: one folder for both splits, or one for each; none for class folders.
        classes: only for label maps: names of the values 0, 1, ...
        ignore: only for label maps: a value that is ignored, in addition to 255.

    Raises:
        UserError: bad arguments or data; names the first error and the command that lists all.
    """
    if not images and Path(train).is_dir() and Path(val).is_dir():
        if classes is not None or ignore is not None:
            raise UserError('--classes and --ignore are only for label maps: the folders name the classes')
        return _read_folders(Path(train), Path(val))
    missing = next((path for path in (train, val) if not Path(path).exists()), None)
    if missing is not None:
        raise UserError(f'no file or folder at {os.path.abspath(missing)}: correct --train or --val')
    if not images:
        raise UserError('--images is required with COCO jsons and label maps: the folder of the images')
    if len(images) not in (1, 2):
        raise UserError(f'--images names {len(images)} folders: expected one, or one for each split')
    annotations = Path(train), Path(val)
    image_folders = Path(images[0]), Path(images[-1])
    are_folders = [path.is_dir() for path in annotations]
    if are_folders[0] != are_folders[1]:
        folder, file = annotations if are_folders[0] else reversed(annotations)
        raise UserError(f'{folder} is a folder and {file} is not: give two jsons or two label-map folders')
    if are_folders[0]:
        return _read_label_maps(annotations, image_folders, classes, ignore)
    if classes is not None or ignore is not None:
        raise UserError('--classes and --ignore are only for label maps: a COCO json names its own classes')
    return _read_coco(annotations, image_folders)


def _read_coco(annotations: tuple[Path, Path], image_folders: tuple[Path, Path]) -> OwnData:
    parts = zip(_SPLITS, annotations, image_folders, strict=True)
    splits = [read_split(name, path, folder) for name, path, folder in parts]
    for split in splits:
        read_images = len(split.content['images']) <= OPEN_UP_TO
        check_coco_split(split, read_images=read_images)
    findings = [finding for split in splits for finding in split.findings] + compare_splits(splits)
    findings += overlap([(split.name, split.hashes) for split in splits])
    _stop_at_errors(findings, annotations, image_folders, '--fix fixed')

    train, val = (split.content for split in splits)
    classes, val_classes = ([c['name'] for c in content['categories']] for content in (train, val))
    if val_classes != classes:
        raise UserError(
            f'{annotations[1]} and {annotations[0]} must list the same categories in the same order'
        )
    for path, content in zip(annotations, (train, val), strict=True):
        if not content['annotations']:
            raise UserError(f'{path} has no objects: training and evaluation both need some')
    objects = train['annotations']
    sizes = [(image['height'], image['width']) for image in train['images']]
    images_with_objects = {a['image_id'] for a in objects}
    return OwnData(
        kind='coco',
        train=annotations[0],
        val=annotations[1],
        image_folders=image_folders,
        classes=classes,
        has_masks=all(a.get('segmentation') for a in objects + val['annotations']),
        num_images=len(sizes),
        num_empty=len({image['id'] for image in train['images']} - images_with_objects),
        median_size=_median_size(sizes),
        crowd=int(np.percentile(list(Counter(a['image_id'] for a in objects).values()), 95)),
        findings=findings,
    )


def _read_folders(train: Path, val: Path) -> OwnData:
    splits = [FolderSplit(name, folder) for name, folder in zip(_SPLITS, (train, val), strict=True)]
    for split in splits:
        check_folder_split(split)
    findings = [finding for split in splits for finding in split.findings] + compare_folders(splits)
    findings += overlap([(split.name, split.hashes) for split in splits])
    _stop_at_errors(findings, (train, val), (), '')
    return OwnData(
        kind='folders',
        train=train,
        val=val,
        image_folders=(train, val),
        classes=list(splits[0].images),
        has_masks=False,
        num_images=splits[0].images.total(),
        num_empty=0,
        median_size=_median_size([size[::-1] for size in splits[0].sizes]),
        findings=findings,
    )


def _read_label_maps(
    annotations: tuple[Path, Path],
    image_folders: tuple[Path, Path],
    classes: Sequence[str] | None,
    ignore: int | None,
) -> OwnData:
    if not classes:
        raise UserError(
            '--classes is required with label maps: names of the values 0, 1, ..., as in sky road'
        )
    parts = zip(_SPLITS, image_folders, annotations, strict=True)
    splits = [LabelMapSplit(name=name, images=images, labels=labels) for name, images, labels in parts]
    values = LabelValues(classes, ignored=() if ignore is None else (ignore,))
    for split in splits:
        check_label_map_split(split, values)
    findings = [finding for split in splits for finding in split.findings]
    findings += overlap([(split.name, split.hashes) for split in splits])
    options = f'--classes {" ".join(classes)}' + ('' if ignore is None else f' --ignore {ignore}')
    _stop_at_errors(findings, annotations, image_folders, options)

    train_images, val_images = (images_below(folder) for folder in image_folders)
    suffixes = {path.suffix for path in (*train_images, *val_images)}
    if len(suffixes) > 1:
        raise UserError(
            f'the images have suffixes {", ".join(sorted(suffixes))}: label maps need a single one'
        )
    sizes = []
    for path in train_images[:: max(1, len(train_images) // _SAMPLED_SIZES)]:
        with open_image(path) as image:
            width, height = upright_size(image)
        sizes.append((height, width))
    return OwnData(
        kind='labels',
        train=annotations[0],
        val=annotations[1],
        image_folders=image_folders,
        classes=list(classes),
        has_masks=True,
        num_images=len(train_images),
        num_empty=0,
        median_size=_median_size(sizes),
        image_suffix=suffixes.pop(),
        ignore_index=255 if ignore is None else ignore,
        findings=findings,
    )


def _median_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    height, width = np.median(np.array(sizes), axis=0)
    return int(height), int(width)


def _stop_at_errors(
    findings: Sequence[Finding],
    annotations: tuple[Path, Path],
    image_folders: Sequence[Path],
    options: str,
) -> None:
    errors = [f for f in findings if f.level == 'error' and f.kind not in TOLERATED]
    if not errors:
        return
    images = f' --images {" ".join(map(str, dict.fromkeys(image_folders)))}' if image_folders else ''
    train, val = annotations
    kinds = 'kind' if len(errors) == 1 else 'kinds'
    command = f'python tools/check_data.py --train {train} --val {val}{images} {options}'.rstrip()
    raise UserError(
        f'{len(errors)} {kinds} of error in the data, the first: {errors[0].line().removeprefix("error: ")}. '
        f'List all: {command}'
    )
