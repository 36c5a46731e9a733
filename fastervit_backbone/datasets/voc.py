"""PASCAL VOC and its relatives: an XML file of boxes for each image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..utils.errors import UserError
from ..utils.files import read_text
from .image_files import images_below, walk_files
from .objects import Objects
from .splits import SPLITS, split_of
from .validation.coco import CocoSplit
from .voc_xml import _MARKS, read_xml, violation

NAME = 'VOC'


def is_voc(place: Path) -> bool:
    """Whether a folder has VOC's two folders."""
    return (place / 'JPEGImages').is_dir() and (place / 'Annotations').is_dir()


def near(place: Path) -> str:
    """Say what a folder lacks to be in this layout; '' where it is nothing of the kind."""
    folders = {p.name.lower(): p for p in place.iterdir() if p.is_dir()}
    if 'jpegimages' in folders and 'segmentationclass' in folders:
        return (
            f'{place} is VOC with SegmentationClass: fastervit convert-data masks '
            f'{folders["segmentationclass"]} --colors classes.txt --out labels makes label maps of it, then '
            f'name them and --images {folders["jpegimages"]}'
        )
    xml = next(walk_files(place, ('.xml',)), None)
    if xml is not None:
        return f'{place} has .xml files, such as {xml.relative_to(place)}, and no images of their names'
    return ''


def read_voc(
    folder: str | Path, classes: Sequence[str] | None = None, splits: Sequence[str] | None = None
) -> dict[str, CocoSplit]:
    """Read PASCAL VOC: ``Annotations/*.xml``, ``JPEGImages``, both with subfolders, and the lists of splits.

    The splits are those of ``ImageSets/Main/{train,val,test}.txt``, else ``trainval.txt``, else the only list
    there; without lists everything is in ``data``. Coordinates start at 1, as in mmdet's VOC data set, so
    that 1 is subtracted. Objects marked ``difficult`` become COCO's ``iscrowd``, which evaluation and
    training leave out.

    Args:
        folder: holds ``Annotations`` and ``JPEGImages``.
        classes: the classes to keep, in this order; None keeps all, sorted.
        splits: those to read, of those that have a list; None: all.

    Returns:
        split -> COCO; category ids from 1.

    Raises:
        UserError: a list that cannot be read, or is empty.
    """
    folder = Path(folder)
    if not is_voc(folder):
        raise UserError(f'{folder} has no Annotations and JPEGImages: give the folder that holds both')
    annotations = {_key(p, folder / 'Annotations'): p for p in walk_files(folder / 'Annotations', ('.xml',))}
    images: dict[str, list[Path]] = {}
    for path in images_below(folder / 'JPEGImages'):
        images.setdefault(_key(path, folder / 'JPEGImages'), []).append(path)
    lists = lists_of(folder)
    known = images.keys() | annotations.keys()
    listed = {split: list(_listed(path, known)) for split, path in lists.items()} or dict(
        data=sorted(annotations)
    )
    if 'trainval' in listed and (one := {'train', 'val'} & listed.keys()):
        (has,) = one  # the other one is the rest
        rest = [name for name in listed.pop('trainval') if name not in set(listed[has])]
        listed['val' if has == 'train' else 'train'] = rest
    entries: dict[str, list[tuple[Path | None, Path, str]]] = {}
    for split, names in listed.items():
        if splits is not None and split in SPLITS and split not in splits:
            continue
        if not names:
            raise UserError(f'{folder}: the split {split} is empty')
        entries[split] = [
            (
                _image_of(images.get(name, []), annotations.get(name)),
                annotations.get(name, folder / name),
                name,
            )
            for name in names
        ]
    if not entries:
        raise UserError(
            f'{folder} has only the splits {", ".join(listed)}: none of {", ".join(splits or ())}'
        )
    return _read(folder, entries, classes, folder / 'JPEGImages')


def read_beside(place: Path) -> dict[str, CocoSplit]:
    """Read XML files that lie beside their images, or in a folder beside theirs, as LabelImg keeps them.

    Splits are folders called ``train``, ``val``, ``test`` and the like, of the XML files or of the images.
    Empty where no XML file has an image.

    Raises:
        UserError: two images could be the one of an XML file, or two XML files are of one image.
    """
    images: dict[str, list[Path]] = {}
    for path in images_below(place):
        images.setdefault(path.stem, []).append(path)
    found = {path: _nearest(path, images.get(path.stem, []), place) for path in walk_files(place, ('.xml',))}
    of: dict[Path, Path] = {}
    for path, image in found.items():
        if image is not None and of.setdefault(image, path) != path:
            raise UserError(f'{of[image]} and {path} are both of {image}: move one of them away')
    if not of:
        return {}
    entries: dict[str, list[tuple[Path | None, Path, str]]] = {}
    for path, image in found.items():
        split = _split_below(path, place) or (_split_below(image, place) if image else '') or 'data'
        name = path.relative_to(place).with_suffix('').as_posix()
        entries.setdefault(split, []).append((image, path, name))
    order = [name for name in (*SPLITS, 'data') if name in entries]
    splits = _read(place, {name: entries[name] for name in order}, None, place)
    others = [path for paths in images.values() for path in paths if path not in of]
    if others:
        name = others[0].relative_to(place)
        splits[order[0]].notes.append(f'{len(others)} images have no .xml, such as {name}: not used')
    return splits


def _split_below(path: Path, place: Path) -> str:
    return split_of(path.relative_to(place).parts[:-1])


def _nearest(xml: Path, candidates: Sequence[Path], place: Path) -> Path | None:
    """Return the image of an XML file: in its folder, else the one that shares most folders with it."""

    def shared(image: Path) -> tuple[bool, int]:
        return image.parent == xml.parent, len(set(image.relative_to(place).parts[:-1]) & folders)

    folders = set(xml.relative_to(place).parts[:-1])
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    best = max(map(shared, candidates))
    nearest = [image for image in candidates if shared(image) == best]
    if len(nearest) > 1:
        stated = read_xml(xml, xml.name).image
        nearest = [image for image in nearest if image.name == stated] or nearest
    if len(nearest) > 1:
        raise UserError(f'{xml} could be of {nearest[0]} or of {nearest[1]}: put it beside its image')
    return nearest[0]


def lists_of(folder: Path) -> dict[str, Path]:
    """Return the lists of a VOC folder by the name of their split."""
    main = folder / 'ImageSets' / 'Main'
    files = sorted(main.glob('*.txt')) if main.is_dir() else []
    found = {split_of([path.stem]) or path.stem.lower(): path for path in files}
    existing = {name: found[name] for name in (*SPLITS, 'trainval') if name in found}
    if {'train', 'val'} <= existing.keys():
        existing.pop('trainval', None)  # its images are those of train and val
    return existing or ({'data': files[0]} if len(files) == 1 else {})


def _listed(path: Path, known: set[str]) -> Iterator[str]:
    """Yield the names of a list; names may have spaces, and a second column marks the images of a class."""
    for line in read_text(path).splitlines():
        name, words = line.strip(), line.split()
        if not words:
            continue
        if name not in known and len(words) > 1 and words[-1] in _MARKS:
            name = name[: -len(words[-1])].strip()
        yield name.removesuffix('.jpg') if name not in known else name


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix('').as_posix()


def _image_of(candidates: Sequence[Path], xml: Path | None) -> Path | None:
    """Return the image of an XML file, by the name that it states where several have its name."""
    if len(candidates) > 1 and xml is not None:
        stated = read_xml(xml, xml.name).image
        return next((p for p in candidates if p.name == stated), candidates[0])
    return candidates[0] if candidates else None


def _read(
    place: Path,
    entries: dict[str, list[tuple[Path | None, Path, str]]],
    classes: Sequence[str] | None,
    images: Path,
) -> dict[str, CocoSplit]:
    """Read splits of (image or None, XML file, name)."""
    read = {
        split: [(image, read_xml(xml, f'{name}.xml', compare=False), name) for image, xml, name in parts]
        for split, parts in entries.items()
    }
    found = sorted({name for parts in read.values() for _, file, _ in parts for name, _, _ in file.objects})
    numbers = {name: i for i, name in enumerate(classes or found, start=1)}
    splits = {}
    for split, parts in read.items():
        by_image = {image: file for image, file, _ in parts if image is not None}
        sizes = {image: file.size for image, file in by_image.items() if file.size}
        objects = Objects(list(by_image), {i: n for n, i in numbers.items()}, sizes, images)
        objects.violations += [violation('image-missing', name) for image, _, name in parts if image is None]
        objects.violations += [v for _, file, _ in parts for v in file.violations]
        others: dict[str, int] = {}
        for image, path in objects.readable():
            for name, (x1, y1, x2, y2), difficult in by_image[path].objects:
                if name in numbers:
                    box = [x1 - 1, y1 - 1, x2 - x1, y2 - y1]
                    objects.add_box(image, numbers[name], box, crowd=difficult)
                else:
                    others[name] = others.get(name, 0) + 1
        splits[split] = objects.split(split, place, NAME)
        splits[split].notes += [
            f'{n} objects of {name!r}, which is not one of the classes' for name, n in others.items()
        ]
    return splits
