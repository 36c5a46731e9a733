"""Find the splits of a data set from one json or folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...utils.errors import UserError
from ..coco import read_coco
from ..images import IMAGES, images_below
from .layouts import NO_CLASS, is_broken, nearest_layout

_WORDS = {
    'coco': 'COCO jsons',
    'labels': 'label maps',
    'voc': 'VOC annotations',
    'folders': 'images in one folder per class',
}
#: A split's name -> how folders and files call it.
_SPLITS = {
    'train': ('train', 'training', 'train2017'),
    'val': ('val', 'valid', 'validation', 'val2017'),
    'test': ('test', 'testing', 'test2017'),
}


@dataclass(frozen=True)
class Discovered:
    """Splits of one kind.

    Args:
        kind: 'coco', 'labels', 'voc' or 'folders'.
        splits: name -> (json, folder of label maps or VOC's list; folder of its images, of VOC's own or of
            the class folders).
        contents: json -> its content, where it has been read.
        skipped: jsons that were found and are not checked.
    """

    kind: Literal['coco', 'labels', 'voc', 'folders']
    splits: Mapping[str, tuple[Path | None, Path]]
    contents: Mapping[Path, dict] = field(default_factory=dict)
    skipped: Sequence[Path] = ()

    def words(self) -> str:
        """Name the kind."""
        return _WORDS[self.kind]

    def line(self) -> str:
        """Tell what was found, on one line."""
        parts = (
            f'{name} {path or folder} (images in {folder})' for name, (path, folder) in self.splits.items()
        )
        skipped = f'; not checked: {", ".join(path.name for path in self.skipped)}' if self.skipped else ''
        return f'{self.words()}: {"; ".join(parts)}{skipped}'


def discover(place: str | Path, images: Sequence[str] = ()) -> Discovered:
    """Find the splits at one place.

    Args:
        place: a COCO json; or a folder with COCO jsons (``annotations/*.json``, or one json beside each
            split's images as Roboflow exports them), with ``images/`` and ``labels/`` (or ``annotations/``,
            ``masks/``) of label maps, with VOC's ``JPEGImages`` and ``Annotations``, or with one folder of
            images per class, in ``train/`` and ``val/`` or by themselves.
        images: folder of the images, where it cannot be found or is meant to be another.

    Raises:
        UserError: nothing known is there, or the images are not found.
    """
    place = Path(place)
    if place.is_file():
        return _discover_jsons({_split_name(place.stem) or 'data': (place, read_coco(place))}, [], images)
    if not place.is_dir():
        raise UserError(f'no file or folder at {place}: give a COCO json or the folder of a data set')
    jsons, skipped = _coco_jsons(place)
    _check_one_layout(place, jsons)
    if jsons:
        return _discover_jsons(jsons, skipped, images)
    if images:
        raise UserError(f'--images {images[0]}: {place} has its images in itself; leave the option out')
    if _is_voc(place):
        return Discovered('voc', _voc_lists(place))
    labels = _label_map_folders(place)
    if labels:
        return Discovered('labels', labels)
    class_folders = _class_folders(place)
    if class_folders and not any(map(is_broken, skipped)):
        return Discovered('folders', class_folders)
    raise UserError(nearest_layout(place, skipped))


def check_one_layout(folder: Path) -> None:
    """Raise UserError if a folder holds more than one of COCO jsons, PASCAL VOC and YOLO's data.yaml."""
    _check_one_layout(folder, _coco_jsons(folder)[0])


def _check_one_layout(folder: Path, jsons: Mapping) -> None:
    is_yolo = (folder / 'data.yaml').is_file()
    layouts = {'COCO jsons': jsons, 'PASCAL VOC': _is_voc(folder), 'YOLO (data.yaml)': is_yolo}
    found = [name for name, is_there in layouts.items() if is_there]
    if len(found) > 1:
        raise UserError(
            f'{folder} holds {" and ".join(found)}, which may differ: name one, as the path of a json or of '
            'data.yaml, or move the others away'
        )


def _is_voc(folder: Path) -> bool:
    return (folder / 'JPEGImages').is_dir() and (folder / 'Annotations').is_dir()


def _split_name(text: str) -> str:
    """Return the split that a name of a file or folder speaks of, or ''."""
    words = text.lower().replace('-', '_').replace('.', '_').split('_')
    return next((split for split, names in _SPLITS.items() if set(words) & set(names)), '')


def _voc_lists(place: Path) -> dict[str, tuple[Path | None, Path]]:
    folder = place / 'ImageSets' / 'Main'
    lists = {name: folder / f'{name}.txt' for name in ('train', 'val', 'test', 'trainval')}
    existing: dict[str, tuple[Path | None, Path]] = {
        n: (path, place) for n, path in lists.items() if path.is_file()
    }
    if 'train' in existing:
        existing.pop('trainval', None)  # its images are those of train and val
    return existing or {'data': (None, place)}


def _coco_jsons(place: Path) -> tuple[dict[str, tuple[Path, dict]], list[Path]]:
    """Return split -> (json, content), and the jsons that were passed over.

    Where there are ``instances_*.json``, others (keypoints, captions, panoptic) describe the same images.
    """
    patterns = ('*.json', 'annotations/*.json', '*/_annotations.coco.json')
    candidates = sorted({path for pattern in patterns for path in place.glob(pattern)})
    chosen = [path for path in candidates if path.stem.startswith('instances_')] or candidates
    skipped = [path for path in candidates if path not in chosen]
    found: dict[str, tuple[Path, dict]] = {}
    for path in chosen:
        try:
            content = read_coco(path)
        except UserError:  # another kind of json
            skipped.append(path)
            continue
        own_folder = path.stem.startswith('_annotations')  # Roboflow: one folder per split
        name = _split_name(path.stem) or (own_folder and (_split_name(path.parent.name) or path.parent.name))
        name = name or path.stem
        found[name if name not in found else str(path.relative_to(place).with_suffix(''))] = (path, content)
    order = [*_SPLITS, *found]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]))), skipped


def _discover_jsons(
    jsons: Mapping[str, tuple[Path, dict]], skipped: Sequence[Path], images: Sequence[str]
) -> Discovered:
    if images and len(images) not in (1, len(jsons)):
        raise UserError(
            f'--images names {len(images)} folders for {len(jsons)} splits ({", ".join(jsons)}): '
            'one for all, or one for each'
        )
    splits: dict[str, tuple[Path | None, Path]] = {}
    for i, (name, (path, content)) in enumerate(jsons.items()):
        folder = Path(images[min(i, len(images) - 1)]) if images else _image_folder(path, content)
        splits[name] = (path, folder)
    return Discovered('coco', splits, dict(jsons.values()), skipped)


def _image_folder(path: Path, content: Mapping) -> Path:
    """Return the folder of a json's images: the nearest that has its first image."""
    entries = content['images']
    names = (e['file_name'] for e in entries if isinstance(e, dict) and isinstance(e.get('file_name'), str))
    first = next(names, None)
    if first is None:
        return path.parent  # the rules say what is wrong
    split = _split_name(path.stem)
    roots = (path.parent, path.parent.parent)
    folders = [*_SPLITS.get(split, ()), path.stem]
    candidates = [root / part for root in roots for part in ('', 'images', *folders)]
    candidates += [root / 'images' / folder for root in roots for folder in folders]
    nearest = next((c for c in candidates if (c / first).is_file()), None)
    if nearest is None:
        raise UserError(
            f'{path}: its first image, {first}, is not near it: name the folder of the images, --images DIR'
        )
    return nearest


def _label_map_folders(place: Path) -> dict[str, tuple[Path | None, Path]]:
    images = place / 'images'
    labels = next((place / n for n in ('labels', 'annotations', 'masks') if (place / n).is_dir()), None)
    if labels is None or not images.is_dir() or not any(p.suffix == '.png' for p in images_below(labels)):
        return {}
    found: dict[str, tuple[Path | None, Path]] = {}
    for split, names in _SPLITS.items():
        for name in names:
            if (images / name).is_dir() and (labels / name).is_dir():
                found[split] = (labels / name, images / name)
    return found or {'data': (labels, images)}


def _class_folders(place: Path) -> dict[str, tuple[Path | None, Path]]:
    """Return the splits whose images lie in one folder per class."""
    splits = {
        split: place / name for split, names in _SPLITS.items() for name in names if (place / name).is_dir()
    }
    candidates = splits or {'data': place}
    return {split: (None, folder) for split, folder in candidates.items() if _has_class_folders(folder)}


def _has_class_folders(folder: Path) -> bool:
    """Whether all images of a folder lie in two or more folders, none with a name of another layout."""

    def is_image(path: Path) -> bool:
        return path.suffix.lower() in IMAGES

    if any(path.is_file() and is_image(path) for path in folder.iterdir()):
        return False
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')]
    classes = [path for path in folders if any(is_image(Path(entry.name)) for entry in os.scandir(path))]
    return len(classes) > 1 and not any(path.name.lower() in NO_CLASS for path in folders)
