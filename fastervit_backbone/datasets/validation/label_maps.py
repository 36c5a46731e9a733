"""The label-map rules applied to a folder of images and one of label maps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...utils.errors import UserError
from ...utils.progress import progress_bar
from ..image_files import images_below, map_in_threads
from ..image_headers import open_image
from ..pixel_format import PixelFormat
from ..rules import LABEL_MAP_RULES, Violation
from .findings import Collector, Finding, repeated_content
from .image_files import ImageFile, PixelKinds, look

#: The pixel value that mmseg and torch leave out of loss and metric.
IGNORED = 255
#: Values that the 16 bits of a PNG can hold.
_VALUES = 2**16


@dataclass(frozen=True)
class LabelValues:
    """What the pixel values of label maps mean.

    Args:
        classes: names; label i of a loaded map is ``classes[i]``. None: values are counted and not judged.
        reduce_zero_label: 0 in the file is ignored and 1 is the first class, as in ADE20K.
        ignored: further values in the file that are ignored, besides 255.
        label_map: mmseg's: what a loaded label is turned into, after ``reduce_zero_label``.
    """

    classes: Sequence[str] | None
    reduce_zero_label: bool = False
    ignored: Sequence[int] = ()
    label_map: Mapping[int, int] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The value of the first class in the files."""
        return int(self.reduce_zero_label)

    def ignored_values(self) -> set[int]:
        """Return the values in the files that count in no loss and no metric."""
        return {IGNORED, *self.ignored} | ({0} if self.reduce_zero_label else set())

    def allowed(self) -> set[int]:
        """Return the values that a file may hold."""
        allowed = self.ignored_values()
        for value in range(self.first, IGNORED):
            label = self.label_map.get(value - self.first, value - self.first)
            if 0 <= label < len(self.classes or ()) or label == IGNORED:
                allowed.add(value)
        return allowed

    def range(self) -> str:
        """Describe the values of the classes in the files: '0 to 2'."""
        return f'{self.first} to {self.first + len(self.classes or ()) - 1}' + (
            ' (0 is ignored)' if self.first else ''
        )


@dataclass
class LabelMapSplit:
    """A folder of images and a folder of label maps of the same names.

    Args:
        name: 'train', 'val', ...
        images: folder.
        labels: folder, ``.png`` files.
        findings: filled by :func:`check_label_map_split`.
        hashes: content of an image file -> its names.
        pixels: (65536,), how many pixels have each value.
        maps: (65536,), how many label maps have each value.
        sizes: image -> (width, height), of those that could be read.
        present: image -> values of its label map, without 255.
        kinds: channels, numbers and bits of the images.
        notes: of the reader.
    """

    name: str
    images: Path
    labels: Path
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    maps: np.ndarray = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    present: dict[str, set[int]] = field(default_factory=dict)
    kinds: PixelKinds = field(default_factory=PixelKinds)
    notes: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Tell where it is."""
        return f'{self.labels} (images in {self.images})'

    def check(self, read: object = 'all', values: LabelValues | None = None) -> list[Finding]:
        """Call :func:`check_label_map_split`; its images are always read."""
        return check_label_map_split(self, values or LabelValues(None))


@dataclass(frozen=True)
class Pair:
    """What an image and its label map turned out to be.

    Args:
        violations: of the two files.
        counts: pixels of each value of the label map, up to the largest one; None where it has none to count.
        file: the image file.
    """

    violations: list[Violation]
    counts: np.ndarray | None = None
    file: ImageFile = field(default_factory=ImageFile)


def pair_files(split: LabelMapSplit) -> tuple[list[tuple[Path, Path]], list[str], list[str]]:
    """Return (image and label map of the same name, names of images only, names of label maps only)."""
    images = {p.relative_to(split.images).with_suffix(''): p for p in images_below(split.images)}
    labels = {
        p.relative_to(split.labels).with_suffix(''): p
        for p in images_below(split.labels, ('.png',))
        if p.suffix == '.png'
    }
    pairs = [(images[name], labels[name]) for name in sorted(set(images) & set(labels))]
    only_images = sorted(map(str, set(images) - set(labels)))
    only_labels = sorted(map(str, set(labels) - set(images)))
    return pairs, only_images, only_labels


def check_label_map_split(split: LabelMapSplit, values: LabelValues) -> list[Finding]:
    """Check a split against every rule that concerns one split.

    Args:
        split: its findings, hashes and counts of pixels are filled.
        values: what they mean.

    Returns:
        the findings, errors first.

    Raises:
        UserError: a folder does not exist.
    """
    for folder in (split.images, split.labels):
        if not folder.is_dir():
            raise UserError(f'{split.name}: no folder at {folder}')
    found = Collector(split.name)
    found.extend(class_violations(values))
    pairs, only_images, only_labels = pair_files(split)
    if not only_images and not pairs:
        found.add(_violation('no-images'))
    found.extend(_violation('label-missing', name) for name in only_images)
    found.extend(_violation('label-alone', name) for name in only_labels)
    names = [image.relative_to(split.images).as_posix() for image, _ in pairs]
    allowed = values.allowed()
    for name, pair in zip(names, progress_bar(read_pairs(pairs, names), len(pairs), split.name), strict=True):
        split.hashes.setdefault(pair.file.digest or '', []).append(name)
        split.kinds.add(pair.file, name)
        if pair.file.size is not None:
            split.sizes[name] = pair.file.size
        found.extend(pair.violations)
        if pair.counts is not None:
            split.pixels[: len(pair.counts)] += pair.counts
            split.maps[: len(pair.counts)] += pair.counts > 0
            split.present[name] = set(np.flatnonzero(pair.counts).tolist()) - {IGNORED}
            if values.classes is not None:
                found.extend(value_violations(name, np.flatnonzero(pair.counts), allowed))
    found.extend(repeated_content(split.hashes))
    found.extend(split_violations(split.pixels, values))
    split.findings = found.findings()
    return split.findings


def class_violations(values: LabelValues) -> Iterator[Violation]:
    """Find classes that are ignored, and more than 8 bits hold: mmseg would read 256 as 0, 257 as 1."""
    most = IGNORED - values.first  # with reduce_zero_label, mmseg turns 254 into 255
    if values.classes is not None and len(values.classes) > most:
        besides = ' besides the ignored label 0' if values.first else ''
        yield _violation('classes-too-many', f'{len(values.classes)} classes, {most} fit{besides}: join some')
    for value in values.ignored:
        index = value - values.first
        if index in range(len(values.classes or ())) and value != IGNORED:
            yield _violation('class-ignored', f'{value} is {values.classes[index]!r}')  # type: ignore[index]


def read_pairs(
    pairs: Sequence[tuple[Path, Path]],
    names: Sequence[str],
    *,
    deep: bool = True,
    pixels: PixelFormat | None = None,
) -> Iterator[Pair]:
    """Open images and their label maps in several threads.

    Args:
        pairs: (image, label map).
        names: how to name each of them.
        deep: decode the images; otherwise only their size is read.
        pixels: how a config reads images; None: as they say.
    """
    return map_in_threads(lambda pair, name: _read_pair(pair, name, deep, pixels), pairs, names)


def _read_pair(pair: tuple[Path, Path], name: str, deep: bool, pixels: PixelFormat | None) -> Pair:
    image_path, label_path = pair
    file = look(image_path, 'all' if deep else 'size', pixels)
    shown = name if deep else str(image_path)
    found = [_violation(rule, file.example(rule, shown)) for rule in file.rules()]
    if file.size is None:
        return Pair(found, file=file)
    size, turn = file.size, file.orientation
    try:
        with open_image(label_path) as labels:
            values = np.asarray(labels)
    except UserError:
        return Pair([*found, _violation('label-unreadable', name)], file=file)
    if values.ndim != 2 or values.dtype.kind not in 'uib' or values.min() < 0 or values.max() >= _VALUES:
        channels = values.shape[2] if values.ndim == 3 else 1
        picture = _violation('label-picture', f'{name}: {channels} channels of {values.dtype}')
        return Pair([*found, picture], file=file)
    counts = np.bincount(values.reshape(-1).astype(np.int64))
    if values.shape[::-1] != size:
        sizes = f'{name}: {values.shape[1]}x{values.shape[0]}, image {size[0]}x{size[1]}'
        if turn >= 5 and values.shape == size:
            sizes += ' after EXIF turns it: write the image upright'
        found.append(_violation('label-size', sizes))
    elif turn > 1:
        found.append(_violation('image-turned', f'{name}: EXIF orientation {turn}'))
    return Pair(found, counts, file)


def value_violations(name: str, present: Iterable[int], allowed: set[int]) -> Iterator[Violation]:
    """Find values of one label map that are no class; ``present``: its values."""
    for value in present:
        if int(value) not in allowed:
            yield _violation('value-unknown', f'{name}: {value}')


def split_violations(pixels: np.ndarray, values: LabelValues) -> Iterator[Violation]:
    """Find what only all label maps together show; ``pixels``: (65536,), how many have each value."""
    present = np.flatnonzero(pixels).tolist()
    wide = [v for v in present if IGNORED < v < _VALUES - 1]  # 65535 is read as 255
    if wide:
        yield _violation('value-wide', f'the first is {wide[0]}')
    total, ignored = int(pixels.sum()), int(pixels[IGNORED])
    if total and set(present) <= values.ignored_values():
        yield _violation('all-ignored', f'they hold only {", ".join(map(str, present))}')
    elif present == [0, IGNORED] and len(values.classes or '01') == 2:
        yield _violation(
            'masks-0-255', f'{values.classes[1]!r} would never be learned' if values.classes else ''
        )
    elif total and ignored > 0.5 * total:
        yield _violation('mostly-ignored', f'{ignored / total:.0%} of all pixels')
    for i, name in enumerate(values.classes or ()):
        if total and not pixels[i + values.first]:
            yield _violation('class-absent', str(name))


def pixel_table(splits: Sequence[LabelMapSplit], values: LabelValues) -> list[str]:
    """Tabulate the share of pixels of every value in every split; in brackets how many maps have it."""
    titles = {}
    for value in np.flatnonzero(sum(s.pixels for s in splits)).tolist():
        index, name = value - values.first, ''
        if value == IGNORED or index < 0:
            name = 'ignored'
        elif index < len(values.classes or ()):
            name = values.classes[index]
        titles[value] = f'{value} {name}'.strip()
    width = max([5, *map(len, titles.values())])
    lines = [f'{"value":<{width}}' + ''.join(f'{s.name:>18}' for s in splits)]
    for value, title in titles.items():
        cells = ''.join(
            f'{s.pixels[value] / max(1, s.pixels.sum()):>11.2%} {f"({s.maps[value]})":>6}' for s in splits
        )
        lines.append(f'{title:<{width}}{cells}')
    return lines


def _violation(rule: str, example: str = '') -> Violation:
    return Violation(LABEL_MAP_RULES[rule], example)
