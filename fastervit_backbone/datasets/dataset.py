"""Open a data set in any layout that people have: the one door to it for checks, training and conversion."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ..utils.errors import UserError
from ..utils.files import read_json
from . import class_folders, coco, label_maps, labelme, voc, yolo
from .class_names import read_class_names
from .validation.coco import CocoSplit, read_split
from .validation.compare import compare_splits
from .validation.findings import Collector, Finding, overlap
from .validation.folders import FolderSplit, compare_folders
from .validation.image_files import PixelKinds
from .validation.label_maps import LabelMapSplit

Split: TypeAlias = CocoSplit | LabelMapSplit | FolderSplit
_NOTHING = (
    'holds no COCO json, no data.yaml of YOLO, no images/ and labels/ folders, no JPEGImages/ and '
    'Annotations/, no jsons of labelme, and no two or more folders of images with the names of classes: '
    'name the splits with --train and --val (and --images, unless they are class folders)'
)


@dataclass(frozen=True)
class Dataset:
    """Splits of one kind.

    Attributes:
        kind: 'coco' (objects, whatever they were read from), 'labels' or 'folders'.
        layout: in words.
        place: where it is; None where the splits were named.
        splits: by name, in the order train, val, test, others; none is checked yet.
        classes: of label maps, where a file beside them names them.
        skipped: jsons that lie there and are not read.
        images: folders of images that were given.
    """

    kind: Literal['coco', 'labels', 'folders']
    layout: str
    place: Path | None
    splits: Mapping[str, Split]
    classes: list[str] | None = None
    skipped: Sequence[Path] = field(default=())
    images: Sequence[str | Path] = field(default=())

    def line(self) -> str:
        """Tell what was found, on one line."""
        parts = (f'{name} {split.told()}' for name, split in self.splits.items())
        skipped = f'; not checked: {", ".join(path.name for path in self.skipped)}' if self.skipped else ''
        return f'{self.layout}: {"; ".join(parts)}{skipped}'

    def notes(self) -> list[str]:
        """Return what the reader left out or took for granted, a line each."""
        return [f'{split.name}: {note}' for split in self.splits.values() for note in split.notes]


def open_dataset(
    place: str | Path, images: Sequence[str | Path] = (), splits: Sequence[str] | None = None
) -> Dataset:
    """Recognize a data set and read its annotations; no rule is applied and no image decoded.

    Args:
        place: a COCO json or a data.yaml; or a folder in one of the layouts: COCO jsons (also Roboflow's),
            YOLO, VOC (also LabelImg's), labelme, label maps, class folders.
        images: folder of a COCO json's images, or one for each json, where they cannot be found.
        splits: of 'train', 'val', 'test', those to read of YOLO and VOC; None: all.

    Raises:
        UserError: nothing known is there, or two layouts are, or it cannot be read.
    """
    place = Path(place)
    if place.is_file():
        if place.suffix.lower() in ('.yaml', '.yml'):
            return _of_objects(yolo.NAME, place, yolo.read_yolo(place, splits))
        content = read_json(place, 'download or write it again')
        if labelme.is_labelme(content):
            raise UserError(labelme.describe(place))
        name = coco.split_name(place.stem) or 'data'
        return _of_jsons(place, {name: (place, coco.as_coco(content, place))}, [], images)
    if not place.is_dir():
        raise UserError(f'no file or folder at {place}: give a COCO json or the folder of a data set')
    jsons, skipped = coco.find(place)
    yaml = yolo.find(place)
    is_there = {'COCO jsons': jsons, 'PASCAL VOC': voc.is_voc(place), f'YOLO ({yaml and yaml.name})': yaml}
    layouts = [name for name, found in is_there.items() if found]
    if len(layouts) > 1:
        raise UserError(
            f'{place} holds {" and ".join(layouts)}, which may differ: name one, as the path of a json or of '
            f'{yaml.name if yaml else "data.yaml"}, or move the others away'
        )
    if jsons:
        return _of_jsons(place, jsons, skipped, images)
    if images:
        raise UserError(f'--images {images[0]}: {place} has its images in itself; leave the option out')
    if yaml is not None:
        return _of_objects(yolo.NAME, place, yolo.read_yolo(yaml, splits))
    if voc.is_voc(place):
        return _of_objects(voc.NAME, place, voc.read_voc(place, splits=splits))
    return _of_files_beside(place, skipped)


def _of_files_beside(place: Path, skipped: Sequence[Path]) -> Dataset:
    """Open label maps, labelme's jsons, XML files beside images, or class folders."""
    maps = label_maps.find(place)
    if maps:
        names = next((place / name for name in label_maps.NAME_FILES if (place / name).is_file()), None)
        classes = None if names is None else read_class_names(names)
        found = {name: LabelMapSplit(name, images, labels) for name, (labels, images) in maps.items()}
        return Dataset('labels', label_maps.NAME, place, found, classes, skipped)
    files = labelme.find(place)
    if files:
        return _of_objects(labelme.NAME, place, labelme.read_labelme(place, files))
    broken = next((path for path in skipped if coco.is_broken(path)), None)
    if broken is not None:
        raise UserError(
            f'{broken} is broken JSON: download or write it again; nothing else in {place} names its objects'
        )
    xml = voc.read_beside(place)
    if xml:
        return _of_objects(f'{voc.NAME} without its folders, as LabelImg writes it', place, xml)
    near = next(filter(None, (layout.near(place) for layout in (voc, yolo, label_maps))), '')
    classes_of = {} if near else class_folders.find(place)
    if classes_of:
        folders = {name: FolderSplit(name, folder) for name, folder in classes_of.items()}
        return Dataset('folders', class_folders.NAME, place, folders, None, skipped)
    others = ''.join(f'; {path.name} is no COCO json' for path in skipped[:1])
    raise UserError(near or f'{place} {_NOTHING}{others}')


def named_splits(splits: Mapping[str, str | Path], images: Sequence[str | Path]) -> Dataset:
    """Open splits that are named one by one.

    Args:
        splits: name -> COCO json, folder of label maps, or folder of class folders.
        images: folder of the images of all, or one for each; none for class folders.

    Raises:
        UserError: they are not of one kind, or a file or folder does not exist.
    """
    paths = {name: Path(path) for name, path in splits.items()}
    missing = next((name for name, path in paths.items() if not path.exists()), None)
    if missing is not None:
        raise UserError(f'no file or folder at {paths[missing].absolute()}: correct --{missing}')
    folders = [path for path in paths.values() if path.is_dir()]
    if folders and len(folders) < len(paths):
        file = next(path for path in paths.values() if path not in folders)
        raise UserError(f'{folders[0]} is a folder and {file} is not: give jsons, or folders of label maps')
    if not images and folders:
        of_classes = {name: FolderSplit(name, path) for name, path in paths.items()}
        return Dataset('folders', class_folders.NAME, None, of_classes)
    if not images:
        raise UserError(
            f'--images is required with COCO jsons and label maps: --{next(iter(paths))} needs the folder of '
            'its images: --images DIR'
        )
    pairs = zip(paths.items(), _folder_of_each(images, paths), strict=True)
    if folders:
        maps = {name: LabelMapSplit(name, folder, path) for (name, path), folder in pairs}
        return Dataset('labels', label_maps.NAME, None, maps)
    return Dataset('coco', coco.NAME, None, {n: read_split(n, path, folder) for (n, path), folder in pairs})


def _of_jsons(
    place: Path, jsons: Mapping[str, tuple[Path, dict]], skipped: Sequence[Path], images: Sequence[str | Path]
) -> Dataset:
    if images:
        folders = _folder_of_each(images, jsons)
    else:
        folders = [coco.image_folder(path, content) for path, content in jsons.values()]
    splits = {
        name: read_split(name, path, folder, content)
        for (name, (path, content)), folder in zip(jsons.items(), folders, strict=True)
    }
    return Dataset('coco', coco.NAME, place, splits, None, skipped, images)


def _folder_of_each(images: Sequence[str | Path], names: Collection[str]) -> list[Path]:
    """Return the folder of the images of each split: one was given for all, or one for each."""
    if len(images) not in (1, len(names)):
        raise UserError(
            f'--images names {len(images)} folders for {len(names)} splits ({", ".join(names)}): '
            'one for all, or one for each'
        )
    return [Path(images[min(i, len(images) - 1)]) for i in range(len(names))]


def _of_objects(layout: str, place: Path, splits: Mapping[str, CocoSplit]) -> Dataset:
    return Dataset('coco', layout, place, splits)


def compare(dataset: Dataset, checked: Sequence[Split]) -> list[Finding]:
    """Find what differs between splits that were checked, or is the same: classes, ids, channels, images."""
    findings: list[Finding] = []
    if dataset.kind == 'coco':
        findings += compare_splits(checked)
    elif dataset.kind == 'folders':
        findings += compare_folders(checked)
    found = Collector('')
    found.extend(PixelKinds.together(split.kinds for split in checked).violations())
    return findings + found.findings() + overlap([(split.name, split.hashes) for split in checked])
