"""Check a user's data set, and stop at what would break training."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..datasets.dataset import Dataset, Split, compare
from ..datasets.rules import TOLERATED
from ..datasets.validation.coco import CocoSplit
from ..datasets.validation.findings import Finding
from ..datasets.validation.folders import FolderSplit
from ..datasets.validation.label_maps import LabelMapSplit, LabelValues
from ..utils.errors import UserError
from .training_data import Making, TrainingData, of_folders, of_label_maps, of_objects

#: Image files are decoded only if a split has at most this many: of more, only what gives their size is read.
DECODE_UP_TO = 3000
#: Splits that are trained on, in this order, where a data set has several.
_TRAINING = ('train', 'trainval', 'data', 'all')


def read_training_data(
    dataset: Dataset,
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    ignore: int | None = None,
    masks: bool = True,
    val_fraction: float = 0.2,
    seed: int = 0,
    write: bool = True,
    channels: str | None = None,
    rgb: Sequence[int] | None = None,
) -> TrainingData:
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
        channels: 'color' or 'all' of an image's channels; None: all where they are not colors.
        rgb: channels that pictures show as red, green and blue, from 0.

    Raises:
        UserError: bad arguments or data; names the first error and the command that lists all.
    """
    if channels not in (None, 'color', 'all'):
        raise UserError(f'--channels {channels}: choose color or all')
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
    if channels == 'color':  # of which three are read, whatever there are
        findings = [finding for finding in findings if finding.kind != 'image-channels-differ']
    _stop_at_errors(dataset, findings, given, ignore)
    lines = [f'{dataset.layout} in {dataset.place}: training on {train.name}'] if dataset.place else []
    lines += [f'note: {note}' for note in dataset.notes()]
    unused = [name for name in dataset.splits if name not in ('test', *(split.name for split in used))]
    unused += [path.name for path in dataset.skipped]
    lines += [f'note: not used: {", ".join(unused)}'] if unused else []
    making = Making(dataset, used, folder, val_fraction, seed, write, findings, lines, channels, rgb)
    if dataset.kind == 'coco':
        return of_objects(making, masks)
    if dataset.kind == 'folders':
        return of_folders(making)
    assert classes is not None
    if given is None:
        lines[0] += ', classes of a file beside them'
    return of_label_maps(making, classes, ignore)


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


def _stop_at_errors(
    dataset: Dataset, findings: Sequence[Finding], classes: Sequence[str] | None, ignore: int | None
) -> None:
    errors = [f for f in findings if f.level == 'error' and f.kind not in TOLERATED]
    if not errors:
        return
    kinds = 'kind' if len(errors) == 1 else 'kinds'
    command = ['fastervit', 'check-data', *([str(dataset.place)] if dataset.place else [])]
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
