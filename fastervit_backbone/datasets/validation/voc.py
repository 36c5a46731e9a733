"""The VOC rules applied to a list of images, their XML files and the images."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from ...utils.errors import UserError
from ...utils.files import check_regular, read_text
from .findings import Collector, Finding, repeated_content
from .image_files import look_all
from .rules import VOC_RULES, Violation

_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


@dataclass
class VocSplit:
    """A list of images of a VOC folder.

    Args:
        name: 'train', 'val', ...
        folder: holds ``JPEGImages`` and ``Annotations``.
        list_file: the list, one name per line; None for every annotation file.
        findings: filled by :func:`check_voc_split`.
        hashes: content of an image file -> its names.
        objects: class -> its objects.
    """

    name: str
    folder: Path
    list_file: Path | None
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    objects: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counter[str]:
        """Return the objects of each class, by name."""
        return self.objects


def check_voc_split(split: VocSplit, *, read_images: bool = True) -> list[Finding]:
    """Check a split against every rule that concerns one split.

    Args:
        split: its findings, hashes and objects are filled.
        read_images: open every image file; otherwise only check that it exists.

    Returns:
        the findings, errors first.

    Raises:
        UserError: the list cannot be read.
    """
    found = Collector(split.name)
    names = image_names(split.list_file, split.folder)
    found.extend(voc_violations(split, names))
    if read_images:
        paths = [split.folder / 'JPEGImages' / f'{name}.jpg' for name in names]
        for path, file in zip(paths, look_all(paths, split.name), strict=True):
            if file.digest:
                split.hashes.setdefault(file.digest, []).append(path.name)
            found.extend(_violation(rule, path.name) for rule in file.rules() if rule != 'image-missing')
    found.extend(repeated_content(split.hashes))
    split.findings = found.findings()
    return split.findings


def image_names(list_file: Path | None, folder: Path) -> list[str]:
    """Return the lines of a list, whatever is in them; without a list, the names of the annotation files.

    Raises:
        UserError: the list is not a text file.
    """
    if list_file is None:
        return sorted(p.stem for p in (folder / 'Annotations').glob('*.xml'))
    return read_text(list_file).splitlines()


def voc_violations(split: VocSplit, names: Sequence[str]) -> Iterator[Violation]:
    """Find what is wrong with lists and annotation files, without opening images; fills ``split.objects``."""
    if not names:
        yield _violation('no-images')
        return
    for name in names:
        # mmdet takes whole lines as names; VOC's lists of a single class have a second column
        if len(name.split()) != 1 or name != name.strip():
            yield _violation('list-bad', f'the line {name!r}')
    existing = {part: listing(split.folder / part) for part in ('JPEGImages', 'Annotations')}
    for name in names:
        if f'{name}.jpg' not in existing['JPEGImages']:
            yield _violation('image-missing', f'{name}.jpg')
        if f'{name}.xml' not in existing['Annotations']:
            yield _violation('xml-missing', f'{name}.xml')
            continue
        yield from _xml_violations(split, f'{name}.xml')
    if not split.objects:
        yield _violation('no-annotations')


def listing(folder: Path) -> set[str]:
    """Return the names in a folder; empty if it does not exist."""
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


def _xml_violations(split: VocSplit, name: str) -> Iterator[Violation]:
    try:
        check_regular(split.folder / 'Annotations' / name)
        tree = ElementTree.parse(split.folder / 'Annotations' / name)
    except (ElementTree.ParseError, OSError, LookupError, UserError) as error:
        yield _violation('xml-unreadable', f'{name}: {error}')
        return
    size = tree.find('size')
    sides = None
    if size is not None:
        sides, violations = _numbers(name, size, ('width', 'height'))
        yield from violations
    for item in tree.iterfind('object'):
        label, box = item.findtext('name'), item.find('bndbox')
        if not label or box is None:
            yield _violation('object-incomplete', f'{name}: no {"bndbox" if label else "name"}')
            continue
        split.objects[label] += 1
        if item.find('difficult') is not None:
            yield from _numbers(name, item, ('difficult',))[1]
        corners, violations = _numbers(name, box, _CORNERS)
        yield from violations
        if corners is None:
            continue
        x1, y1, x2, y2 = corners
        if x2 < x1 or y2 < y1:
            yield _violation('box-negative', f'{name}: {label} {corners}')
        elif x2 == x1 or y2 == y1:
            yield _violation('box-flat', f'{name}: {label} {corners}')
        elif x2 <= 0 or y2 <= 0 or (sides and min(sides) > 0 and (x1 > sides[0] or y1 > sides[1])):
            yield _violation('box-outside', f'{name}: {label} {corners}')


def _numbers(
    name: str, part: ElementTree.Element, tags: Sequence[str]
) -> tuple[list[float] | None, list[Violation]]:
    """Return the numbers of these elements, or None and what is wrong with them."""
    numbers, violations = [], []
    for tag in tags:
        text = part.findtext(tag)
        try:
            number = float(text or '')
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            violations.append(_violation('number-bad', f'{name}: {part.tag}/{tag} {text!r}'))
        numbers.append(number)
    return (None if violations else numbers), violations


def _violation(rule: str, example: str = '') -> Violation:
    return Violation(VOC_RULES[rule], example)
