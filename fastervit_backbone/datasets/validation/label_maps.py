"""A folder of images and one of label maps looked through from end to end."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...utils.errors import UserError
from ..images import images_below, open_image, upright_size
from ..label_maps import IGNORED, check_class_count
from .findings import Collector, Finding


@dataclass
class LabelSplit:
    """A folder of images and a folder of label maps of the same names.

    Args:
        name: 'train', 'val', ...
        images: folder.
        labels: folder, ``.png`` files.
        findings: about it.
        hashes: content of an image file -> its names.
        pixels: (65536,), how many pixels have each value.
        maps: (65536,), how many label maps have each value.
    """

    name: str
    images: Path
    labels: Path
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(2**16, np.int64))
    maps: np.ndarray = field(default_factory=lambda: np.zeros(2**16, np.int64))


def pair_files(split: LabelSplit) -> tuple[list[tuple[Path, Path]], list[str], list[str]]:
    """(image and label map of the same name, names of images alone, names of label maps alone)."""
    images = {p.relative_to(split.images).with_suffix(''): p for p in images_below(split.images)}
    labels = {p.relative_to(split.labels).with_suffix(''): p for p in sorted(split.labels.rglob('*.png'))}
    pairs = [(images[n], labels[n]) for n in sorted(set(images) & set(labels))]
    return pairs, *(
        sorted(map(str, set(one) - set(other))) for one, other in ((images, labels), (labels, images))
    )


def audit_labels(
    split: LabelSplit,
    classes: Sequence[str] | None,
    *,
    reduce_zero_label: bool = False,
    ignored: Sequence[int] = (),
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> list[Finding]:
    """Look through a split.

    Args:
        split: its findings, hashes and counts of pixels are filled.
        classes: names; label i (with ``reduce_zero_label`` i + 1) is ``classes[i]``. None: values are counted and not judged.
        reduce_zero_label: 0 means "no class" and 1 is the first.
        ignored: further values that mean "no class", beside 255.
        progress: wraps the pairs as they are read, given their number.

    Raises:
        UserError: a folder is not there.
    """
    for folder in (split.images, split.labels):
        if not folder.is_dir():
            raise UserError(f'{split.name}: no folder at {folder}')
    found = Collector(split.name)
    if classes is not None:
        try:
            check_class_count(classes, reduce_zero_label)
        except UserError as error:
            found.add('error', 'classes-too-many', str(error))
    pairs, images, labels = pair_files(split)
    if not images and not pairs:
        found.add('error', 'no-images', 'no images')
    for name in images:
        found.add('error', 'label-missing', 'images without a label map of their name', name)
    for name in labels:
        found.add('warning', 'image-missing', 'label maps without an image of their name', name)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(_look, pairs)
        for (image, _), (problem, digest, counts) in zip(
            pairs, progress(results, len(pairs)) if progress else results, strict=True
        ):
            name = image.relative_to(split.images).as_posix()
            if digest:
                split.hashes.setdefault(digest, []).append(name)
            if problem:
                found.add('error', *problem, name)
            if counts is not None:
                split.pixels[: len(counts)] += counts
                split.maps[: len(counts)] += counts > 0
                _judge(name, np.flatnonzero(counts), classes, reduce_zero_label, ignored, found)
    for same in split.hashes.values():
        if len(same) > 1:
            found.add('warning', 'image-content-twice', 'images with the same content', ' = '.join(same[:3]))
    _judge_all(split, classes, reduce_zero_label, found)
    split.findings = found.findings()
    return split.findings


def _look(pair: tuple[Path, Path]) -> tuple[tuple[str, str] | None, str | None, np.ndarray | None]:
    """(what is wrong, hash of the image file, pixels of each value)."""
    image_path, label_path = pair
    digest = hashlib.sha256(image_path.read_bytes()).hexdigest()
    try:
        with open_image(image_path) as image:
            size = upright_size(image)
            image.load()
    except UserError:
        return ('image-unreadable', 'images that cannot be read'), digest, None
    try:
        with open_image(label_path) as labels:
            pixels = np.asarray(labels)
    except UserError:
        return ('label-unreadable', 'label maps that cannot be read'), digest, None
    if pixels.ndim != 2 or pixels.dtype.kind not in 'uib' or pixels.min() < 0 or pixels.max() >= 2**16:
        return (
            ('label-picture', 'label maps that are pictures: write one channel of class numbers'),
            digest,
            None,
        )
    counts = np.bincount(pixels.reshape(-1).astype(np.int64))
    if pixels.shape[::-1] != size:
        return (
            (
                'label-size',
                'label maps of another size than their images: write them at that size, without interpolating',
            ),
            digest,
            counts,
        )
    return None, digest, counts


def _judge(
    name: str,
    values: np.ndarray,
    classes: Sequence[str] | None,
    reduce_zero_label: bool,
    ignored: Sequence[int],
    found: Collector,
) -> None:
    if classes is None:
        return
    first = int(reduce_zero_label)
    allowed = {*range(first, first + len(classes)), IGNORED, *ignored} | ({0} if reduce_zero_label else set())
    for value in values:
        if int(value) not in allowed:
            message = (
                f'label maps with values that are no class (they are {first} to {first + len(classes) - 1})'
            )
            found.add('error', 'value-unknown', message, f'{name}: {value}')


def _judge_all(
    split: LabelSplit, classes: Sequence[str] | None, reduce_zero_label: bool, found: Collector
) -> None:
    present = set(np.flatnonzero(split.pixels).tolist())
    wide = sorted(present - {*range(IGNORED + 1), 2**16 - 1})  # 65535 is read as 255
    if wide:
        message = 'label maps with values above 255: mmseg reads 8 bits, and takes 256 for 0, 257 for 1'
        found.add('error', 'value-wide', message, f'{wide[0]} in {split.maps[wide[0]]} of them')
    if present == {0, IGNORED}:
        found.add(
            'error',
            'masks-0-255',
            'all label maps hold 0 and 255 only, and 255 means "no class": the foreground would never be learnt. Write 0 and 1',
        )
    total, unseen = split.pixels.sum(), split.pixels[IGNORED]
    if total and unseen > 0.5 * total and present != {0, IGNORED}:
        found.add('warning', 'mostly-ignored', f'{unseen / total:.0%} of all pixels are 255, "no class"')
    for i, name in enumerate(classes or ()):
        if total and not split.pixels[i + int(reduce_zero_label)]:
            found.add('warning', 'class-absent', 'classes without a single pixel', str(name))


def pixel_table(
    splits: Sequence[LabelSplit], classes: Sequence[str] | None, reduce_zero_label: bool
) -> list[str]:
    """Part of the pixels of every value in every split, aligned; maps that have it in brackets."""
    values = np.flatnonzero(sum(s.pixels for s in splits))
    first = int(reduce_zero_label)
    names = {first + i: name for i, name in enumerate(classes or ())}
    titles = [
        f'{v} {names.get(int(v), "no class" if v == IGNORED or (reduce_zero_label and v == 0) else "")}'.strip()
        for v in values
    ]
    width = max([5, *map(len, titles)])
    lines = [f'{"value":<{width}}' + ''.join(f'{s.name:>18}' for s in splits)]
    for value, title in zip(values, titles, strict=True):
        cells = ''.join(
            f'{s.pixels[value] / max(1, s.pixels.sum()):>11.2%} {f"({s.maps[value]})":>6}' for s in splits
        )
        lines.append(f'{title:<{width}}{cells}')
    return lines
