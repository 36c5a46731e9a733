"""What training needs to know of a user's data set: its splits, checked, and what they can teach."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..datasets.dataset import Dataset, Split, compare
from ..datasets.images import BITS, images_below
from ..datasets.validation.coco import CocoSplit
from ..datasets.validation.findings import Finding
from ..datasets.validation.folders import FolderSplit
from ..datasets.validation.label_maps import LabelMapSplit, LabelValues
from ..datasets.validation.rules import TOLERATED
from ..utils.errors import UserError
from ..utils.files import replacing
from .split import choose_val, digests, link_files, split_coco

#: Image files are decoded only if a split has at most this many: of more, only what gives their size is read.
DECODE_UP_TO = 3000
#: Splits that are trained on, in this order, where a data set has several.
_TRAINING = ('train', 'trainval', 'data', 'all')
#: Splits of YOLO and VOC that are read: a test split may have no labels.
USED = ('train', 'val')


@dataclass
class OwnData:
    """A training and a validation split.

    Attributes:
        kind: 'coco', 'labels' or 'folders'.
        train: COCO json, folder of label maps, or folder of class folders.
        val: likewise.
        image_folders: of train and of val.
        classes: names.
        has_masks: whether masks are learned ('coco').
        num_images: training images.
        num_empty: training images without objects ('coco').
        median_size: (height, width), the median over the training images.
        crowd: objects of an image, that of twenty which has the most ('coco').
        image_suffix: file suffix of the images ('labels').
        ignore_index: value of ignored pixels ('labels').
        bits: that pixels of the images use; None for 8 or all 16.
        findings: of the check.
        lines: for the user: what was found, what is left out.
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
    bits: int | None = None
    findings: Sequence[Finding] = ()
    lines: list[str] = field(default_factory=list)


def read_own_data(
    dataset: Dataset,
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    ignore: int | None = None,
    masks: bool = True,
    val_fraction: float = 0.2,
    seed: int = 0,
    write: bool = True,
) -> OwnData:
    """Check a data set, stop at errors that would break training, and make what training reads.

    Without a validation split, a part of the training images becomes one: of every class that part of its
    images, at least one where there are two, and identical files stay together. A test split is not used.

    Args:
        dataset: as opened.
        folder: for jsons of other layouts, and for jsons or links of a new split.
        classes: only for label maps: names of the values 0, 1, ...; None: those of a file beside them.
        ignore: only for label maps: a value that is ignored, in addition to 255.
        masks: False: learn boxes only.
        val_fraction: of the images, where there is no validation split; (0, 1).
        seed: of that choice.
        write: False: nothing is written, the paths are those that would be.

    Raises:
        UserError: bad arguments or data; names the first error and the command that lists all.
    """
    if not 0 < val_fraction < 1:
        raise UserError(f'--val-fraction {val_fraction}: must be above 0 and below 1')
    if dataset.kind != 'labels' and (classes is not None or ignore is not None):
        named = 'the folders name' if dataset.kind == 'folders' else f'{dataset.layout} name'
        raise UserError(f'--classes and --ignore are only for label maps: {named} the classes')
    _check_apart(dataset, folder)
    given, classes = classes, classes or dataset.classes
    if dataset.kind == 'labels' and not classes:
        raise UserError(
            '--classes is required with label maps: names of the values 0, 1, ..., as in sky road'
        )
    train = _training_split(dataset)
    used = [train, *([dataset.splits['val']] if 'val' in dataset.splits else [])]
    values = LabelValues(classes, ignored=() if ignore is None else (ignore,))
    findings = [finding for split in used for finding in split.check(_depth(split), values)]
    findings += compare(dataset, used)
    _stop_at_errors(dataset, findings, given, ignore)
    lines = [f'{dataset.layout} in {dataset.place}: training on {train.name}'] if dataset.place else []
    lines += [f'note: {note}' for note in dataset.notes()]
    unused = [name for name in dataset.splits if name not in ('test', *(split.name for split in used))]
    unused += [path.name for path in dataset.skipped]
    lines += [f'note: not used: {", ".join(unused)}'] if unused else []
    making = _Making(dataset, used, folder, val_fraction, seed, write, findings, lines)
    if dataset.kind == 'coco':
        return _of_objects(making, masks)
    if dataset.kind == 'folders':
        return _of_folders(making)
    assert classes is not None
    if given is None:
        lines[0] += ', classes of a file beside them'
    return _of_label_maps(making, classes, ignore)


def _check_apart(dataset: Dataset, folder: Path) -> None:
    """Raise UserError where what is written would replace the user's data."""
    target = Path(os.path.realpath(folder))
    for split in dataset.splits.values():
        paths = [split.path.parent, split.images] if isinstance(split, CocoSplit) else []
        paths += [split.folder] if isinstance(split, FolderSplit) else []
        paths += [split.images, split.labels] if isinstance(split, LabelMapSplit) else []
        for path in (*paths, *([dataset.place] if dataset.place else [])):
            if Path(os.path.realpath(path)).is_relative_to(target):
                raise UserError(
                    f'{folder} is where new splits are written, and has the data: use another --work-dir'
                )


@dataclass
class _Making:
    """A data set on its way to :class:`OwnData`; ``used``: the training split, and perhaps the other."""

    dataset: Dataset
    used: list[Split]
    folder: Path
    val_fraction: float
    seed: int
    write: bool
    findings: list[Finding]
    lines: list[str]

    def tell_split(self, train: int, val: int) -> None:
        self.lines.append(
            f'no validation split: {val} of {train + val} images become one (--val-fraction, '
            f'seed {self.seed})'
        )

    def bits(self) -> int | None:
        most = max(split.bits for split in self.used)
        return most if 0 < most < BITS[-1] else None


def _training_split(dataset: Dataset) -> Split:
    names = list(dataset.splits)
    train = next((name for name in _TRAINING if name in names), None)
    others = [name for name in names if name not in ('val', 'test')]
    if train is None and len(others) == 1:
        train = others[0]
    if train is None:
        raise UserError(
            f'{dataset.place} has the splits {", ".join(names)}: which is for training? Use --train and --val'
        )
    return dataset.splits[train]


def _depth(split: Split) -> str:
    return 'size' if isinstance(split, CocoSplit) and len(split.content['images']) > DECODE_UP_TO else 'all'


def _of_objects(making: _Making, masks: bool) -> OwnData:
    splits: list[CocoSplit] = making.used  # type: ignore[assignment]
    is_new = bool(splits[0].layout)
    if len(splits) == 1:
        splits = list(split_coco(splits[0], making.val_fraction, making.seed))
        making.tell_split(*(len(split.content['images']) for split in splits))
        is_new = True
    elif making.dataset.place:
        making.lines.append('validating on val')
    train, val = (split.content for split in splits)
    classes = [c['name'] for c in train['categories']]
    is_other_order = [c['name'] for c in val['categories']] != classes
    if is_other_order:  # the order of the json is that of mmdet's labels
        splits[1].content = val = val | dict(
            categories=sorted(val['categories'], key=lambda c: classes.index(c['name']))
        )
        making.lines.append(f'note: {splits[1].path} lists its categories in another order: written again')
    written = [is_new, is_new or is_other_order]
    paths = [
        making.folder / f'{name}.json' if is_written else split.path
        for name, is_written, split in zip(USED, written, splits, strict=True)
    ]
    for split, content in zip(splits, (train, val), strict=True):
        if not content['annotations']:
            raise UserError(
                f'{split.path}: {split.name} has no objects: training and evaluation both need some'
            )
    if not making.used[0].layout:  # type: ignore[union-attr]
        making.lines += _unlisted(list(making.dataset.splits.values()))  # type: ignore[arg-type]
    objects = train['annotations']
    has_masks = masks and _have_masks(making.dataset, [*objects, *val['annotations']])
    for path, split, is_written in zip(paths, splits, written, strict=True):
        if is_written and making.write:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(split.content))
    sizes = [(image['height'], image['width']) for image in train['images']]
    return OwnData(
        kind='coco',
        train=paths[0],
        val=paths[1],
        image_folders=(splits[0].images, splits[1].images),
        classes=classes,
        has_masks=has_masks,
        num_images=len(sizes),
        num_empty=len({image['id'] for image in train['images']} - {a['image_id'] for a in objects}),
        median_size=_median_size(sizes),
        crowd=int(np.percentile(list(Counter(a['image_id'] for a in objects).values()), 95)),
        bits=making.bits(),
        findings=making.findings,
        lines=making.lines,
    )


def _have_masks(dataset: Dataset, objects: Sequence[dict]) -> bool:
    """Return whether objects have masks; UserError where only some have."""
    without = [a for a in objects if not a.get('segmentation')]  # crowds, too: mmdet reads their masks
    if without and len(without) < len(objects):
        example = (
            f', the first is annotation {without[0].get("id")}' if dataset.layout == 'COCO jsons' else ''
        )
        raise UserError(
            f'{len(without)} of {len(objects)} objects have no mask{example}: complete them, or use '
            '--no-masks to learn boxes only'
        )
    return not without


def _unlisted(splits: Sequence[CocoSplit]) -> list[str]:
    """Report the images beside jsons that none of them lists."""
    listed: dict[Path, set[Path]] = {}
    for split in splits:
        names = (str(image['file_name']) for image in split.content['images'])
        listed.setdefault(split.images, set()).update(split.images / name for name in names)
    lines = []
    for folder, names in listed.items():
        below = images_below(folder)
        missing = [file for file in below if file not in names]
        others = [other for other in listed if other != folder and other.is_relative_to(folder)]
        missing = [file for file in missing if not any(file.is_relative_to(other) for other in others)]
        if missing:
            lines.append(f'note: {len(missing)} of {len(below)} images in {folder} are in no json: not used')
    return lines


def _of_folders(making: _Making) -> OwnData:
    splits: list[FolderSplit] = making.used  # type: ignore[assignment]
    train = splits[0]
    names, folders = list(train.files), [split.folder for split in splits]
    if len(splits) == 1:
        chosen = choose_val(
            {name: {label} for name, label in train.files.items()},
            digests(train.hashes),
            making.val_fraction,
            making.seed,
        )
        names = [name for name in train.files if name not in chosen]
        folders = _link(making, 'images', train.folder, names, chosen)
        if making.write:  # a class with one image has none in val, and is a class there all the same
            for folder in folders:
                for label in train.images:
                    (folder / label).mkdir(parents=True, exist_ok=True)
        making.tell_split(len(names), len(chosen))
    elif making.dataset.place:
        making.lines.append('validating on val')
    return OwnData(
        kind='folders',
        train=folders[0],
        val=folders[1],
        image_folders=(folders[0], folders[1]),
        classes=list(train.images),
        has_masks=False,
        num_images=len(names),
        num_empty=0,
        median_size=_median_size([train.sizes[name][::-1] for name in names if name in train.sizes]),
        bits=making.bits(),
        findings=making.findings,
        lines=making.lines,
    )


def _of_label_maps(making: _Making, classes: Sequence[str], ignore: int | None) -> OwnData:
    splits: list[LabelMapSplit] = making.used  # type: ignore[assignment]
    train = splits[0]
    suffixes = {Path(name).suffix for split in splits for name in split.present}
    if len(suffixes) > 1:
        raise UserError(
            f'the images have suffixes {", ".join(sorted(suffixes))}: label maps need a single one'
        )
    names, images, labels = list(train.present), [s.images for s in splits], [s.labels for s in splits]
    if len(splits) == 1:
        chosen = choose_val(train.present, digests(train.hashes), making.val_fraction, making.seed)
        names = [name for name in train.present if name not in chosen]
        maps, of_val = ([str(Path(name).with_suffix('.png')) for name in part] for part in (names, chosen))
        images = _link(making, 'images', train.images, names, chosen)
        labels = _link(making, 'labels', train.labels, maps, of_val)
        making.tell_split(len(names), len(chosen))
    elif making.dataset.place:
        making.lines.append('validating on val')
    return OwnData(
        kind='labels',
        train=labels[0],
        val=labels[1],
        image_folders=(images[0], images[1]),
        classes=list(classes),
        has_masks=True,
        num_images=len(names),
        num_empty=0,
        median_size=_median_size([train.sizes[name][::-1] for name in names]),
        image_suffix=suffixes.pop(),
        ignore_index=255 if ignore is None else ignore,
        bits=making.bits(),
        findings=making.findings,
        lines=making.lines,
    )


def _link(
    making: _Making, kind: str, source: Path, train: Collection[str], val: Collection[str]
) -> list[Path]:
    """Link the files of a split to two folders, and return these."""
    folders = [making.folder / kind / split for split in USED]
    for folder, names in zip(folders, (train, val), strict=True):
        if making.write:
            link_files(names, source, folder)
    return folders


def _median_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    height, width = np.median(np.array(sizes), axis=0)
    return int(height), int(width)


def _stop_at_errors(
    dataset: Dataset, findings: Sequence[Finding], classes: Sequence[str] | None, ignore: int | None
) -> None:
    errors = [f for f in findings if f.level == 'error' and f.kind not in TOLERATED]
    if not errors:
        return
    kinds = 'kind' if len(errors) == 1 else 'kinds'
    command = ['python', 'tools/check_data.py', *([str(dataset.place)] if dataset.place else [])]
    command += ['--images', *map(str, dataset.images)] if dataset.images else []
    if not dataset.place:
        splits = dataset.splits
        command += [word for name, split in splits.items() for word in (f'--{name}', _annotations(split))]
        folders = dict.fromkeys(str(s.images) for s in splits.values() if not isinstance(s, FolderSplit))
        command += ['--images', *folders] if folders else []
    if dataset.kind == 'labels' and classes is not None:
        command += ['--classes', *classes]
    command += [] if ignore is None else ['--ignore', str(ignore)]
    command += ['--fix', 'fixed'] if dataset.kind == 'coco' else []
    raise UserError(
        f'{len(errors)} {kinds} of error in the data, the first: {errors[0].line().removeprefix("error: ")}. '
        f'List all: {shlex.join(command)}'
    )


def _annotations(split: Split) -> str:
    if isinstance(split, CocoSplit):
        return str(split.path)
    return str(split.folder if isinstance(split, FolderSplit) else split.labels)
