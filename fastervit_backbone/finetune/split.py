"""Make a validation split of a training split: of every class its part, identical images together."""

import os
import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from ..datasets.validation.coco import CocoSplit
from ..utils.errors import UserError


def choose_val(
    images: Mapping[str, Collection[object]], identical: Mapping[str, str], fraction: float, seed: int
) -> set[str]:
    """Choose images for validation, stratified by class, the rarest first.

    Args:
        images: image -> the classes in it.
        identical: image -> digest; images of one digest go together, those without one alone.
        fraction: of the images, of every class and of those without one.
        seed: of the order.

    Raises:
        UserError: fewer than two different images.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(images):
        groups.setdefault(identical.get(name, name), []).append(name)
    if len(groups) < 2:
        raise UserError(f'{len(groups)} different images cannot be split: name a validation split with --val')
    classes = {key: {c for name in names for c in images[name]} or {None} for key, names in groups.items()}
    keys = sorted(groups)
    order = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    total = Counter(c for found in classes.values() for c in found)
    with_class: dict[object, list[str]] = {}
    for key in order:
        for c in classes[key]:
            with_class.setdefault(c, []).append(key)
    chosen: set[str] = set()
    count: Counter = Counter()
    for name in sorted(total, key=lambda c: (total[c], str(c))):
        wanted = min(max(1, round(fraction * total[name])), total[name] - 1)
        for key in with_class[name]:
            if count[name] >= wanted:
                break
            # the training part keeps every class
            if key in chosen or any(count[c] + 1 >= total[c] for c in classes[key]):
                continue
            chosen.add(key)
            count.update(classes[key])
    if not chosen:
        chosen.add(order[0])
    return {name for key in chosen for name in groups[key]}


def digests(hashes: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Turn digest -> names into name -> digest."""
    return {name: digest for digest, names in hashes.items() for name in names}


def split_coco(split: CocoSplit, fraction: float, seed: int) -> tuple[CocoSplit, CocoSplit]:
    """Split checked images and their objects in two."""
    content = split.content
    names = {image['id']: image['file_name'] for image in content['images']}
    classes: dict[str, set[object]] = {name: set() for name in names.values()}
    for annotation in content['annotations']:
        classes[names[annotation['image_id']]].add(annotation['category_id'])
    chosen = choose_val(classes, digests(split.hashes), fraction, seed)
    parts = []
    for is_val in (False, True):
        ids = {i for i, name in names.items() if (name in chosen) == is_val}
        part = dict(
            content,
            images=[image for image in content['images'] if image['id'] in ids],
            annotations=[a for a in content['annotations'] if a['image_id'] in ids],
        )
        parts.append(CocoSplit(('train', 'val')[is_val], split.path, split.images, part, files=split.files))
    return parts[0], parts[1]


def link_files(names: Collection[str], source: Path, target: Path) -> None:
    """Fill a folder with links to files, or copies where the system has no links; what was there goes."""
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink((source / name).resolve(), target / name)
        except OSError:
            shutil.copyfile(source / name, target / name)
