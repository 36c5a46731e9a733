"""Training and validation data from one folder or file, in any layout that people have."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..datasets.class_names import read_class_names
from ..datasets.convert import Converted, convert_voc, convert_yolo
from ..datasets.images import images_below, open_image
from ..datasets.validation.before_training import check_coco
from ..datasets.validation.discover import Discovered, check_one_layout, discover
from ..utils.errors import UserError
from ..utils.files import digest_of, replacing

#: Splits that are trained on, in this order, where a data set has several.
_TRAINING = ('train', 'trainval', 'data', 'all')
#: Splits of YOLO and VOC that are read: a test split may have no labels.
_USED = ('train', 'val')
#: Files beside label maps that name the values 0, 1, ..., one a line.
_NAME_FILES = ('classes.txt', 'labels.txt', 'names.txt')


@dataclass(frozen=True)
class Place:
    """What was found, as the arguments of :func:`~.own_data.read_own_data`.

    Attributes:
        train: COCO json, folder of label maps or of class folders.
        val: likewise.
        images: folders of the images of both; empty for class folders.
        classes: of label maps, where a file names them; None.
        lines: for the user.
    """

    train: Path
    val: Path
    images: list[Path]
    classes: list[str] | None = None
    lines: list[str] = field(default_factory=list)


def read_place(
    place: str | Path, images: Sequence[str | Path], folder: Path, val_fraction: float, seed: int
) -> Place:
    """Recognize a data set: COCO, Roboflow's COCO, YOLO, VOC, images/ and labels/, or class folders.

    Without a validation split, a part of the training images becomes one: of every class that part of its
    images, at least one where there are two, and identical files stay together. A test split is not used.

    Args:
        place: folder, COCO json or YOLO's data.yaml.
        images: folder of a COCO json's images, where it cannot be found.
        folder: for jsons, and for links to the images of a new split; written only if they are needed.
        val_fraction: of the images, where there is no validation split; (0, 1).
        seed: of that choice.

    Raises:
        UserError: nothing known is there, or it cannot be split.
    """
    place = Path(place)
    if not 0 < val_fraction < 1:
        raise UserError(f'--val-fraction {val_fraction}: must be above 0 and below 1')
    yaml = place if place.suffix in ('.yaml', '.yml') else place / 'data.yaml'
    if yaml.is_file():
        if yaml != place:
            check_one_layout(place)
        return _of_jsons(convert_yolo(yaml, _USED), f'YOLO, {yaml}', folder, val_fraction, seed)
    found = discover(place, [str(path) for path in images])
    if found.kind == 'voc':
        return _of_jsons(convert_voc(place, splits=_USED), f'VOC, {place}', folder, val_fraction, seed)
    train = next((name for name in _TRAINING if name in found.splits), None)
    others = [name for name in found.splits if name not in ('val', 'test')]
    if train is None and len(others) == 1:
        train = others[0]
    if train is None:
        raise UserError(
            f'{place} has the splits {", ".join(found.splits)}: which is for training? Use --train and --val'
        )
    line = f'{found.words()} in {place}: training on {train}'
    if found.kind == 'coco':
        return _of_coco(found, train, line, folder, val_fraction, seed)
    return _of_folders(found, place, train, line, folder, val_fraction, seed)


def choose_val(
    images: Mapping[str, Collection[object]], identical: Mapping[str, str], fraction: float, seed: int
) -> set[str]:
    """Choose images for validation, stratified by class, the rarest first.

    Args:
        images: image -> the classes in it.
        identical: image -> digest; images of one digest go together.
        fraction: of the images, of every class and of those without one.
        seed: of the order.

    Raises:
        UserError: fewer than two different images.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(images):
        groups.setdefault(identical[name], []).append(name)
    if len(groups) < 2:
        raise UserError(f'{len(groups)} different images cannot be split: name a validation split with --val')
    classes = {key: {c for name in names for c in images[name]} or {None} for key, names in groups.items()}
    keys = sorted(groups)
    order = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    total = Counter(c for found in classes.values() for c in found)
    chosen: set[str] = set()
    count: Counter = Counter()
    for name in sorted(total, key=lambda c: (total[c], str(c))):
        wanted = min(max(1, round(fraction * total[name])), total[name] - 1)
        for key in order:
            if count[name] >= wanted:
                break
            # the training part keeps every class
            if (
                key in chosen
                or name not in classes[key]
                or any(count[c] + 1 >= total[c] for c in classes[key])
            ):
                continue
            chosen.add(key)
            count.update(classes[key])
    if not chosen:
        chosen.add(order[0])
    return {name for key in chosen for name in groups[key]}


def _of_jsons(
    splits: Mapping[str, Converted], source: str, folder: Path, val_fraction: float, seed: int
) -> Place:
    train = next((name for name in _TRAINING if name in splits), None)
    if train is None:
        raise UserError(f'{source} has only the splits {", ".join(splits)}: which is for training?')
    lines = [f'{source}: training on {train}']
    used = [splits[name] for name in (train, 'val') if name in splits]
    lines += [f'skipped: {line}' for split in used for line in split.skipped]
    lines += [f'note: {line}' for split in used for line in split.notes]
    if 'val' in splits:
        contents, folders = [split.content for split in used], [split.images for split in used]
        lines.append('validating on val')
    else:
        contents = _split_coco(splits[train].content, splits[train].images, val_fraction, seed)
        folders = [splits[train].images] * 2
        lines.append(_split_line(*(len(content['images']) for content in contents), seed))
    paths = _write_jsons(contents, folder)
    return Place(*paths, folders, lines=lines)


def _of_coco(found: Discovered, train: str, line: str, folder: Path, val_fraction: float, seed: int) -> Place:
    path, images = found.splits[train]
    assert path is not None
    if 'val' in found.splits:
        val, val_images = found.splits['val']
        assert val is not None
        lines = [line, 'validating on val', *_unlisted(found)]
        return Place(path, val, [images, val_images], lines=lines)
    content = found.contents[path]
    check_coco(path, images, content=content)  # what is broken cannot be split
    contents = _split_coco(content, images, val_fraction, seed)
    lines = [line, _split_line(*(len(content['images']) for content in contents), seed), *_unlisted(found)]
    return Place(*_write_jsons(contents, folder), [images, images], lines=lines)


def _unlisted(found: Discovered) -> list[str]:
    """Report the images beside the jsons that none of them lists."""
    listed: dict[Path, set[Path]] = {}
    for path, images in found.splits.values():
        if path is not None:
            entries = [image for image in found.contents[path]['images'] if isinstance(image, dict)]
            names = [str(image.get('file_name')) for image in entries]
            listed.setdefault(images, set()).update(images / name for name in names)
    lines = []
    for folder, names in listed.items():
        below = images_below(folder)
        missing = [file for file in below if file not in names]
        others = [other for other in listed if other != folder and other.is_relative_to(folder)]
        missing = [file for file in missing if not any(file.is_relative_to(other) for other in others)]
        if missing:
            lines.append(f'note: {len(missing)} of {len(below)} images in {folder} are in no json: not used')
    return lines


def _of_folders(
    found: Discovered, place: Path, train: str, line: str, folder: Path, val_fraction: float, seed: int
) -> Place:
    """Label maps, with their images beside them, or class folders."""
    labels, images = found.splits[train]
    names = next((place / name for name in _NAME_FILES if (place / name).is_file()), None)
    classes = None
    if labels is not None and names is not None:
        classes = read_class_names(names)
        line = f'{line}, classes of {names.name}'
    if 'val' in found.splits:
        val_labels, val_images = found.splits['val']
        lines = [line, 'validating on val']
        if labels is None or val_labels is None:
            return Place(images, val_images, [], lines=lines)
        return Place(labels, val_labels, [images, val_images], classes, lines)
    files = {str(path.relative_to(images)): path for path in images_below(images)}
    if labels is None:
        seen: dict[str, Collection[object]] = {name: {Path(name).parts[0]} for name in files}
    else:
        seen = {name: _values((labels / name).with_suffix('.png')) for name in files}
        if not any((labels / name).with_suffix('.png').is_file() for name in files):
            other = next(iter(sorted(labels.rglob('*.png'))), None)
            raise UserError(
                f'{labels} has no label map with the name of an image in {images}: '
                f'{next(iter(files), "no image")} beside {"nothing" if other is None else other.name}: give '
                'both the same names'
            )
    chosen = choose_val(seen, {name: digest_of(path) for name, path in files.items()}, val_fraction, seed)
    folder.mkdir(parents=True, exist_ok=True)
    roots = {}
    for kind, root in (('images', images), ('labels', labels)):
        for split in ('train', 'val') if root is not None else ():
            roots[kind, split] = folder / kind / split
            shutil.rmtree(roots[kind, split], ignore_errors=True)
        for name in files if root is not None else ():
            part = name if kind == 'images' else str(Path(name).with_suffix('.png'))
            _link(root / part, roots[kind, 'val' if name in chosen else 'train'] / part)
    lines = [line, _split_line(len(files) - len(chosen), len(chosen), seed)]
    if labels is None:
        return Place(roots['images', 'train'], roots['images', 'val'], [], lines=lines)
    folders = [roots['images', 'train'], roots['images', 'val']]
    return Place(roots['labels', 'train'], roots['labels', 'val'], folders, classes, lines)


def _split_coco(content: Mapping, images: Path, fraction: float, seed: int) -> list[dict]:
    names = {image['id']: image['file_name'] for image in content['images']}
    classes: dict[str, set[object]] = {name: set() for name in names.values()}
    for annotation in content['annotations']:
        if annotation['image_id'] in names:
            classes[names[annotation['image_id']]].add(annotation['category_id'])
    digests = {name: _digest(images / name) for name in classes}
    chosen = choose_val(classes, digests, fraction, seed)
    parts = []
    for is_val in (False, True):
        ids = {i for i, name in names.items() if (name in chosen) == is_val}
        parts.append(
            dict(
                content,
                images=[image for image in content['images'] if image['id'] in ids],
                annotations=[a for a in content['annotations'] if a['image_id'] in ids],
            )
        )
    return parts


def _digest(path: Path) -> str:
    if not path.is_file():
        return str(path)  # the check of the data names it
    return digest_of(path)


def _values(label_map: Path) -> set[object]:
    if not label_map.is_file():
        return set()
    with open_image(label_map) as image:
        return {int(value) for value in np.unique(np.asarray(image)) if value != 255}


def _split_line(train: int, val: int, seed: int) -> str:
    return f'no validation split: {val} of {train + val} images become one (--val-fraction, seed {seed})'


def _write_jsons(contents: Sequence[dict], folder: Path) -> list[Path]:
    paths = [folder / f'{name}.json' for name in ('train', 'val')]
    for path, content in zip(paths, contents, strict=True):
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content))
    return paths


def _link(source: Path, target: Path) -> None:
    """Link to a file, or copy it where the system has no links; a missing one is left to the check."""
    if not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
