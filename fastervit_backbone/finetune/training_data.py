"""Turn checked splits into what training reads: a function for each kind of data."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.channel_statistics import ChannelStatistics, channel_statistics
from ..datasets.dataset import Dataset, Split
from ..datasets.image_files import images_below
from ..datasets.pixel_format import COLOR, PixelFormat
from ..datasets.validation.coco import CocoSplit
from ..datasets.validation.findings import Finding
from ..datasets.validation.folders import FolderSplit
from ..datasets.validation.image_files import PixelKinds
from ..datasets.validation.label_maps import LabelMapSplit
from ..utils.errors import UserError
from ..utils.files import replacing
from .channels import choose_pixels
from .split import choose_val, digests, link_files, split_coco

#: Splits of YOLO and VOC that are read: a test split may have no labels.
USED = ('train', 'val')


@dataclass
class TrainingData:
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
        pixels: how images are read.
        statistics: of their channels; None for colors.
        image_classes: indices of the classes in each training image.
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
    pixels: PixelFormat = COLOR
    statistics: ChannelStatistics | None = None
    image_classes: Sequence[Set[int]] = ()
    findings: Sequence[Finding] = ()
    lines: list[str] = field(default_factory=list)


@dataclass
class Making:
    """A data set on its way to :class:`TrainingData`.

    Attributes:
        used: the training split, and perhaps the other.
        channels: 'color', 'all', or None for what the images are.
        rgb: channels that pictures show.
    """

    dataset: Dataset
    used: list[Split]
    folder: Path
    val_fraction: float
    seed: int
    write: bool
    findings: list[Finding]
    lines: list[str]
    channels: str | None = None
    rgb: Sequence[int] | None = None

    def tell_split(self, train: int, val: int) -> None:
        """Add a line on a new split."""
        self.lines.append(
            f'no validation split: {val} of {train + val} images become one (--val-fraction, '
            f'seed {self.seed})'
        )

    def read_as(self, names: Iterable[str | Path]) -> dict[str, Any]:
        """Return ``pixels`` and ``statistics`` of TrainingData; ``names``: the training images."""
        kinds = PixelKinds.together(split.kinds for split in self.used)
        pixels = choose_pixels(kinds, self.channels, self.rgb)
        if pixels.is_color and kinds.transparent:
            self.lines.append(
                f'note: {kinds.transparent} images have a channel that is taken for transparency and left '
                'out: --channels all reads it'
            )
        # what the config says of images is no problem any more
        solved = ('image-dark',) if pixels.is_color else ('image-channels', 'image-dark')
        self.findings[:] = [f for f in self.findings if f.kind not in solved]
        if pixels.channels is None:
            return dict(pixels=pixels)
        return dict(
            pixels=pixels, statistics=channel_statistics([Path(name) for name in names], pixels.channels)
        )


def of_objects(making: Making, masks: bool) -> TrainingData:
    """Write jsons of other layouts and of new splits; ``masks``: False where only boxes are learned."""
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
    index = {category['id']: i for i, category in enumerate(train['categories'])}
    labels: dict[int, set[int]] = {image['id']: set() for image in train['images']}
    for a in objects:
        labels[a['image_id']].add(index[a['category_id']])
    return TrainingData(
        kind='coco',
        train=paths[0],
        val=paths[1],
        image_folders=(splits[0].images, splits[1].images),
        classes=classes,
        has_masks=has_masks,
        num_images=len(sizes),
        num_empty=sum(not found for found in labels.values()),
        median_size=_median_size(sizes),
        crowd=int(np.percentile(list(Counter(a['image_id'] for a in objects).values()), 95)),
        **making.read_as(splits[0].images / image['file_name'] for image in train['images']),
        image_classes=list(labels.values()),
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


def of_folders(making: Making) -> TrainingData:
    """Link the images of a new split of class folders."""
    splits: list[FolderSplit] = making.used  # type: ignore[assignment]
    train = splits[0]
    names, folders = list(train.files), [split.folder for split in splits]
    index = {name: i for i, name in enumerate(train.images)}
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
    return TrainingData(
        kind='folders',
        train=folders[0],
        val=folders[1],
        image_folders=(folders[0], folders[1]),
        classes=list(train.images),
        has_masks=False,
        num_images=len(names),
        num_empty=0,
        median_size=_median_size([train.sizes[name][::-1] for name in names if name in train.sizes]),
        **making.read_as(train.folder / name for name in names),
        image_classes=[{index[train.files[name]]} for name in names],
        findings=making.findings,
        lines=making.lines,
    )


def of_label_maps(making: Making, classes: Sequence[str], ignore: int | None) -> TrainingData:
    """Link the images and label maps of a new split."""
    splits: list[LabelMapSplit] = making.used  # type: ignore[assignment]
    train = splits[0]
    suffixes = {Path(name).suffix for split in splits for name in split.present}
    if len(suffixes) > 1:
        raise UserError(
            f'the images have suffixes {", ".join(sorted(suffixes))}: label maps need a single one'
        )
    names, images, labels = list(train.present), [s.images for s in splits], [s.labels for s in splits]
    learned = set(range(len(classes))) - {ignore}
    if len(splits) == 1:
        chosen = choose_val(train.present, digests(train.hashes), making.val_fraction, making.seed)
        names = [name for name in train.present if name not in chosen]
        maps, of_val = ([str(Path(name).with_suffix('.png')) for name in part] for part in (names, chosen))
        images = _link(making, 'images', train.images, names, chosen)
        labels = _link(making, 'labels', train.labels, maps, of_val)
        making.tell_split(len(names), len(chosen))
    elif making.dataset.place:
        making.lines.append('validating on val')
    return TrainingData(
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
        **making.read_as(train.images / name for name in names),
        image_classes=[train.present[name] & learned for name in names],
        findings=making.findings,
        lines=making.lines,
    )


def _link(
    making: Making, kind: str, source: Path, train: Collection[str], val: Collection[str]
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
