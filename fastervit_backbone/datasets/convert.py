"""Convert YOLO text files and PASCAL VOC XML to COCO jsons; images stay where they are."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import yaml

from ..utils.errors import UserError
from ..utils.files import check_regular, is_file, read_text
from .images import IMAGES, images_below, map_in_threads, open_image, upright_size

#: Splits that are read.
SPLITS = ('train', 'val', 'test')


@dataclass
class Converted:
    """A split in COCO format.

    Attributes:
        images: folder that its ``file_name`` are in.
        content: the json.
        skipped: one line for each thing that was left out.
        notes: one line for each thing worth knowing.
    """

    images: Path
    content: dict
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert_yolo(path: str | Path, splits: Sequence[str] = SPLITS) -> dict[str, Converted]:
    """Read the data set of a YOLO ``data.yaml``.

    Labels are boxes (``class x y w h``) or polygons (``class x1 y1 x2 y2 ...``), relative to the image's
    size. They are found where YOLO finds them: the image's path with its last ``images`` replaced by
    ``labels``.

    Args:
        path: the yaml: ``names`` (list, or dict from 0), ``train``, ``val``, ``test`` (folder, or text file
            of images), and optionally ``path``.
        splits: those to read.

    Returns:
        split -> COCO; category ids are YOLO's class numbers.

    Raises:
        UserError: with file, line and what is wrong.
    """
    path = Path(path)
    check_regular(path)
    if not path.is_file():
        raise UserError(f'no file at {path}: give the data.yaml')
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f'{path} is broken YAML ({" ".join(str(error).split())[:200]})') from error
    names = content.get('names') if isinstance(content, Mapping) else None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, Mapping) or not names or not all(isinstance(k, int) and k >= 0 for k in names):
        raise UserError(f'{path} has no names: a list of class names, or numbers with names')
    # a few lines of YAML can stand for gigabytes
    if not all(isinstance(name, str | int | float) for name in names.values()):
        raise UserError(f'{path}: names must be texts, and one of them is a list or dict')
    root = path.parent / _place(path, content.get('path') or '')
    converted = {}
    for split in splits:
        if content.get(split):
            places = content[split] if isinstance(content[split], list) else [content[split]]
            places = [_place(path, place) for place in places]
            named = {k: str(v) for k, v in names.items()}
            converted[split] = _yolo_split(root, path.parent, places, named, 'kpt_shape' in content)
    if not converted:
        raise UserError(f'{path} names no {", ".join(splits[:-1])} or {splits[-1]}')
    return converted


def _place(path: Path, place: object) -> str:
    """Return a folder or list that the yaml names."""
    if not isinstance(place, str | int | float) or len(str(place)) > 4000 or '\0' in str(place):
        raise UserError(f'{path}: {type(place).__name__} in place of a folder or list of images')
    return str(place)


def _yolo_split(
    root: Path, yaml_folder: Path, places: Sequence[str], names: Mapping[int, str], has_points: bool
) -> Converted:
    files: list[Path] = []
    for place in places:
        tried = (
            root / place,
            yaml_folder / place,
            yaml_folder / place.removeprefix('../'),  # as Roboflow exports it
        )
        folder = next((p for p in tried if p.exists()), None)
        if folder is None:
            raise UserError(
                f'no folder or list of images at {os.path.abspath(root / place)}: correct path or '
                f'{place} in the data.yaml'
            )
        if folder.is_dir():
            files += images_below(folder)
        elif folder.suffix.lower() in IMAGES:
            files.append(folder)
        else:
            files += [folder.parent / line.strip() for line in read_text(folder).splitlines() if line.strip()]
    if not files:
        raise UserError(f'{os.path.abspath(root / places[0])} has no images')
    above, entries, skipped = _images(files)
    if not any(is_file(_label_file(file)) for file in files):
        raise UserError(
            f'no image of {", ".join(places)} has a label file: neither '
            f'{_label_file(files[0])} nor any other exists'
        )
    annotations, unlabeled = [], sum(not is_file(_label_file(file)) for _, file in entries)
    for image, file in entries:
        text = _label_file(file)
        for number, line in enumerate(read_text(text).splitlines() if is_file(text) else (), start=1):
            if line.strip():
                # key points follow the box: they are no polygon
                words = line.split()[:5] if has_points else line.split()
                annotations.append(_yolo_object(f'{text}, line {number}', words, image, names))
    split = _finish(
        above,
        [i for i, _ in entries],
        annotations,
        [dict(id=k, name=v) for k, v in sorted(names.items())],
        skipped,
    )
    if has_points:
        split.notes.append('key points (kpt_shape) are left out: boxes only')
    if unlabeled:
        split.notes.append(
            f'{unlabeled} of {len(entries)} images of {", ".join(places)} have no label file: '
            'taken as without objects'
        )
    return split


def _label_file(image: Path) -> Path:
    parts = list(image.with_suffix('.txt').parts)
    at = max((i for i, part in enumerate(parts[:-1]) if part == 'images'), default=None)
    if at is not None:
        parts[at] = 'labels'
    return Path(*parts)


def _yolo_object(where: str, words: Sequence[str], image: Mapping, names: Mapping[int, str]) -> dict:
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
    if not polygon:
        x, y, bw, bh = values
        return _object(image, label, [(x - bw / 2) * w, (y - bh / 2) * h, bw * w, bh * h])
    points = [min(1.0, max(0.0, v)) * (w, h)[i % 2] for i, v in enumerate(values)]
    xs, ys = points[::2], points[1::2]
    area = abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return _object(image, label, box) | dict(segmentation=[[round(v, 2) for v in points]], area=area)


def convert_voc(
    folder: str | Path, classes: Sequence[str] | None = None, splits: Sequence[str] = SPLITS
) -> dict[str, Converted]:
    """Read PASCAL VOC: ``Annotations/*.xml``, ``JPEGImages`` and the lists of splits.

    The splits are those of ``ImageSets/Main/{train,val,test}.txt``; without lists everything is in ``all``.
    Coordinates start at 1, as in mmdet's VOC data set, so that 1 is subtracted. Objects marked ``difficult``
    become COCO's ``iscrowd``, which evaluation and training leave out.

    Args:
        folder: holds ``Annotations`` and ``JPEGImages``.
        classes: the classes to keep, in this order; None keeps all, sorted.
        splits: those to read, of those that have a list.

    Returns:
        split -> COCO; category ids from 1.

    Raises:
        UserError: with the file and what is wrong.
    """
    folder = Path(folder)
    if not (folder / 'Annotations').is_dir() or not (folder / 'JPEGImages').is_dir():
        raise UserError(f'{folder} has no Annotations and JPEGImages: give the folder that holds both')
    lists = {s: folder / 'ImageSets' / 'Main' / f'{s}.txt' for s in SPLITS}
    stems = {
        s: [line.split()[0] for line in read_text(p).splitlines() if line.split()]
        for s, p in lists.items()
        if p.is_file() and s in splits
    }
    stems = stems or {'all': sorted(p.stem for p in (folder / 'Annotations').glob('*.xml'))}
    images = {p.stem: p for p in sorted((folder / 'JPEGImages').iterdir()) if p.suffix.lower() in IMAGES}
    trees = {}
    for split, names in stems.items():
        if not names:
            raise UserError(f'{folder}: the split {split} is empty')
        for stem in names:
            if stem not in images:
                raise UserError(f'{folder / "JPEGImages"} has no image {stem}, which the split {split} names')
            trees[stem] = _voc_objects(folder / 'Annotations' / f'{stem}.xml')
    found = sorted({name for objects in trees.values() for name, _, _ in objects})
    numbers = {name: i for i, name in enumerate(classes or found, start=1)}
    converted = {}
    for split, names in stems.items():
        above, entries, skipped = _images([images[stem] for stem in names])
        annotations, other = [], Counter()
        for image, file in entries:
            for name, (x1, y1, x2, y2), difficult in trees[file.stem]:
                if name not in numbers:
                    other[name] += 1
                    continue
                annotations.append(
                    _object(image, numbers[name], [x1 - 1, y1 - 1, x2 - x1, y2 - y1])
                    | dict(iscrowd=difficult)
                )
        skipped += [
            f'{count} objects of {name!r}, which is not one of the classes' for name, count in other.items()
        ]
        converted[split] = _finish(
            above,
            [i for i, _ in entries],
            annotations,
            [dict(id=i, name=n) for n, i in numbers.items()],
            skipped,
        )
    return converted


def _voc_objects(path: Path) -> list[tuple[str, list[float], int]]:
    check_regular(path)
    try:
        tree = ElementTree.parse(path).getroot()
        objects = []
        for entry in tree.findall('object'):
            box = [float(entry.findtext(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
            name = entry.findtext('name')
            if not name:
                raise ValueError('an object without a name')
            objects.append((name.strip(), box, int(entry.findtext('difficult') or 0)))
    except (ElementTree.ParseError, OSError, TypeError, ValueError, LookupError) as error:
        reason = (
            'an object without xmin, ymin, xmax, ymax'
            if isinstance(error, TypeError)
            else getattr(error, 'strerror', None) or error
        )
        raise UserError(f'{path} cannot be read as VOC ({reason})') from error
    return objects


def _images(files: Sequence[Path]) -> tuple[Path, list[tuple[dict, Path]], list[str]]:
    """Return (common folder, COCO entries with their files, one line for each unreadable image)."""
    above = Path(os.path.commonpath([os.path.abspath(p.parent) for p in files]))
    sizes = list(map_in_threads(_size, files))
    entries, skipped = [], []
    for i, (file, size) in enumerate(zip(files, sizes, strict=True), start=1):
        if isinstance(size, str):
            skipped.append(size)
        else:
            entries.append(
                (
                    dict(
                        id=i,
                        file_name=os.path.relpath(file, above).replace(os.sep, '/'),
                        width=size[0],
                        height=size[1],
                    ),
                    file,
                )
            )
    return above, entries, skipped


def _size(path: Path) -> tuple[int, int] | str:
    try:
        with open_image(path) as image:
            return upright_size(image)
    except UserError as error:
        return str(error)


def _object(image: Mapping, category: int, box: Sequence[float]) -> dict:
    """Return a COCO object whose box is clipped to the image."""
    x, y, w, h = box
    x1, y1, x2, y2 = (
        max(0.0, x),
        max(0.0, y),
        min(float(image['width']), x + w),
        min(float(image['height']), y + h),
    )
    box = [round(v, 2) for v in (x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1))]
    return dict(image_id=image['id'], category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0)


def _finish(
    above: Path, images: list[dict], annotations: Iterable[dict], categories: list[dict], skipped: list[str]
) -> Converted:
    kept = []
    for a in annotations:
        if a['bbox'][2] <= 0 or a['bbox'][3] <= 0:
            name = next(i['file_name'] for i in images if i['id'] == a['image_id'])
            skipped.append(f'{name}: a box without area inside the image, {a["bbox"]}')
        else:
            kept.append(dict(id=len(kept) + 1, **a))
    return Converted(above, dict(images=images, annotations=kept, categories=categories), skipped)
