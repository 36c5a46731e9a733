"""YOLO: a ``data.yaml`` and a text file of boxes or polygons beside each image."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from ..utils.errors import UserError
from ..utils.files import check_regular, is_file, read_text
from .image_files import IMAGES, images_below
from .objects import Objects
from .validation.coco import CocoSplit

NAME = 'YOLO'
#: How YAML writes nothing.
_NOTHING = ('', '~', 'null', 'Null', 'NULL')
#: Splits, in the order in which they are read, and the keys that may name them.
_KEYS = dict(train=('train',), val=('val', 'valid', 'validation'), test=('test',))


def find(place: Path) -> Path | None:
    """Return the yaml of a folder in this layout: ``data.yaml``, or the only one with names and train."""
    for name in ('data.yaml', 'data.yml'):
        if is_file(place / name):
            return place / name
    found = [p for pattern in ('*.yaml', '*.yml') for p in sorted(place.glob(pattern)) if _is_data_yaml(p)]
    return found[0] if len(found) == 1 else None


def _is_data_yaml(path: Path) -> bool:
    try:
        content = _read_yaml(path)
    except UserError:
        return False
    return 'names' in content and 'train' in content


def near(place: Path) -> str:
    """Say what a folder lacks to be in this layout; '' where it is nothing of the kind."""
    text = next((p for p in sorted(place.rglob('*.txt')) if _is_label_file(p)), None)
    if text is None:
        return ''
    return (
        f'{place} has YOLO labels, such as {text.relative_to(place)}, and no data.yaml: write one with '
        'path, train, val and names, then name it'
    )


def _is_label_file(path: Path) -> bool:
    """Whether the first line of a text file is a class and at least four numbers."""
    try:
        with path.open(encoding='utf-8', errors='replace') as file:
            words = file.readline(1000).split()
        return len(words) >= 5 and words[0].isdigit() and all(0 <= float(w) <= 1.5 for w in words[1:5])
    except (OSError, ValueError):
        return False


def read_yolo(path: str | Path, splits: Sequence[str] | None = None) -> dict[str, CocoSplit]:
    """Read the data set of a YOLO ``data.yaml``.

    Labels are boxes (``class x y w h``) or polygons (``class x1 y1 x2 y2 ...``), relative to the image's
    size. They are found where YOLO finds them: the image's path with its last ``images`` replaced by
    ``labels``.

    Args:
        path: the yaml: ``names`` (list, or dict from 0), ``train``, ``val``, ``test`` (folder, text file of
            images, or a list of those), and optionally ``path``.
        splits: those to read; None: all. A test split without labels is left out.

    Returns:
        split -> COCO; category ids are YOLO's class numbers.

    Raises:
        UserError: with file, line and what is wrong.
    """
    path, splits = Path(path), tuple(_KEYS) if splits is None else splits
    check_regular(path)
    if not path.is_file():
        raise UserError(f'no file at {path}: give the data.yaml')
    content = _read_yaml(path)
    names = _names(path, content.get('names'))
    root = path.parent / _place(path, content.get('path') or '')
    has_points = 'kpt_shape' in content
    found = {}
    for split in splits:
        given = next((content[key] for key in _KEYS[split] if content.get(key)), None)
        if given is None or given in _NOTHING:
            continue
        places = [_place(path, place) for place in (given if isinstance(given, list) else [given])]
        if split == 'test' and not any(map(_has_labels, _files(root, path.parent, places))):
            continue
        found[split] = _read_split(split, path, root, places, names, has_points)
    if not found:
        raise UserError(f'{path} names no {", ".join(splits[:-1])} or {splits[-1]} with labels')
    return found


def _read_yaml(path: Path) -> Mapping:
    """Read a yaml whose values all stay texts: a class called ``no`` is no truth value."""
    try:
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f'{path} is broken YAML ({" ".join(str(error).split())[:200]})') from error
    return content if isinstance(content, Mapping) else {}


def _names(path: Path, names: object) -> dict[int, str]:
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, Mapping) or not names or not all(str(k).isdecimal() for k in names):
        raise UserError(f'{path} has no names: a list of class names, or numbers with names')
    # a few lines of YAML can stand for gigabytes
    if not all(isinstance(name, str) for name in names.values()):
        raise UserError(f'{path}: names must be texts, and one of them is a list or dict')
    return {int(k): name for k, name in names.items()}


def _place(path: Path, place: object) -> str:
    """Return a folder or list that the yaml names."""
    if not isinstance(place, str) or len(place) > 4000 or '\0' in place:
        raise UserError(f'{path}: {type(place).__name__} in place of a folder or list of images')
    return place


def _files(root: Path, yaml_folder: Path, places: Sequence[str]) -> list[Path]:
    """Return the images of a split."""
    files: list[Path] = []
    for place in places:
        tried = (
            root / place,
            yaml_folder / place,
            yaml_folder / place.removeprefix('../'),  # as Roboflow exports it
        )
        found = next(filter(os.path.exists, tried), None)
        if found is None:
            raise UserError(
                f'no folder or list of images at {os.path.abspath(root / place)}: correct path or '
                f'{place} in the data.yaml'
            )
        if found.is_dir():
            files += images_below(found)
        elif found.suffix.lower() in IMAGES:
            files.append(found)
        else:
            files += _listed(found, root)
    if not files:
        raise UserError(f'{os.path.abspath(root / places[0])} has no images')
    return files


def _listed(path: Path, root: Path) -> list[Path]:
    """Return the images that a text lists: from its folder, from the root, or without leading folders."""
    lines = [line.strip().replace('\\', '/') for line in read_text(path).splitlines() if line.strip()]
    files, missing = [], []
    for line in lines:
        parts = Path(line).parts
        tried = [path.parent / line, root / line]
        tried += [folder.joinpath(*parts[i:]) for i in range(1, len(parts)) for folder in (path.parent, root)]
        file = next(filter(is_file, tried), None)
        if file is None:
            missing.append(line)
        else:
            files.append(file)
    if missing:
        raise UserError(
            f'{path} lists images that do not exist ({len(missing)} of {len(lines)}, the first is '
            f'{missing[0]}): write their paths from {path.parent}'
        )
    return files


def _has_labels(image: Path) -> bool:
    return is_file(_label_file(image))


def _label_file(image: Path) -> Path:
    parts = list(image.with_suffix('.txt').parts)
    at = max((i for i, part in enumerate(parts[:-1]) if part == 'images'), default=None)
    if at is not None:
        parts[at] = 'labels'
    return Path(*parts)


def _read_split(
    name: str,
    path: Path,
    root: Path,
    places: Sequence[str],
    names: Mapping[int, str],
    has_points: bool,
) -> CocoSplit:
    files = _files(root, path.parent, places)
    if not any(map(_has_labels, files)):
        raise UserError(
            f'no image of {", ".join(places)} has a label file: neither '
            f'{_label_file(files[0])} nor any other exists'
        )
    objects = Objects(files, {number: names[number] for number in sorted(names)})
    unlabeled = 0
    for image, file in objects.readable():
        text = _label_file(file)
        if not is_file(text):
            unlabeled += 1
            continue
        for number, line in enumerate(read_text(text).splitlines(), start=1):
            if line.strip():
                # key points follow the box: they are no polygon
                words = line.split()[:5] if has_points else line.split()
                _add(objects, f'{text}, line {number}', words, image, names)
    split = objects.split(name, path, NAME)
    if has_points:
        split.notes.append('key points (kpt_shape) are left out: boxes only')
    if unlabeled:
        split.notes.append(
            f'{unlabeled} of {len(files)} images of {", ".join(places)} have no label file: '
            'taken as without objects'
        )
    return split


def _add(
    objects: Objects, where: str, words: Sequence[str], image: Mapping, names: Mapping[int, str]
) -> None:
    try:
        label, values = int(words[0]), [float(w) for w in words[1:]]
    except ValueError as error:
        raise UserError(f'{where}: {" ".join(words)[:60]!r} is not a class number and numbers') from error
    if label not in names:
        raise UserError(f'{where}: class {label} is not one of the {len(names)} names in the data.yaml')
    polygon = len(values) >= 6 and len(values) % 2 == 0
    if not polygon and len(values) != 4:
        raise UserError(
            f'{where}: {len(values)} numbers after the class: a box has 4, a polygon at least 6 (x y x y ...)'
        )
    outside = [v for v in values if not -0.01 <= v <= 1.01]
    if outside:
        raise UserError(f'{where}: {outside[0]:g} is not in 0 to 1, relative to the image: are these pixels?')
    w, h = image['width'], image['height']
    if polygon:
        objects.add_polygons(
            image, label, [[min(1.0, max(0.0, v)) * (w, h)[i % 2] for i, v in enumerate(values)]]
        )
    else:
        x, y, bw, bh = values
        objects.add_box(image, label, [(x - bw / 2) * w, (y - bh / 2) * h, bw * w, bh * h])
