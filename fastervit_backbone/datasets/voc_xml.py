"""Read one XML file of PASCAL VOC."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from ..utils.errors import UserError
from ..utils.files import check_regular, is_file
from .rules import VOC_RULES, Violation

_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


#: Second column of VOC's lists of a class: whether it is in the image.
_MARKS = ('1', '-1', '0')


@dataclass
class VocFile:
    """What an XML file says.

    Attributes:
        size: (width, height) that it states; None.
        objects: class, corners, whether it is marked as difficult.
        violations: what is wrong with it; such objects are left out.
        image: file name of the image that it states; ''.
    """

    size: tuple[int, int] | None = None
    objects: list[tuple[str, list[float], bool]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    image: str = ''


def read_xml(path: Path, name: str, *, compare: bool = True) -> VocFile:
    """Read an annotation file.

    Args:
        path: of the file.
        name: of it, for messages.
        compare: boxes with the size that it states; False where that of the image decides.
    """
    result = VocFile()
    if not is_file(path):
        result.violations.append(violation('xml-missing', name))
        return result
    try:
        check_regular(path)
        tree = ElementTree.parse(path)
    except (ElementTree.ParseError, OSError, LookupError, ValueError, UserError) as error:
        result.violations.append(violation('xml-unreadable', f'{name}: {error}'))
        return result
    result.image = os.path.basename((tree.findtext('filename') or '').strip().replace('\\', '/'))
    size = tree.find('size')
    if size is not None:
        sides = _numbers(name, size, ('width', 'height'), result.violations)
        if sides and min(sides) >= 1:
            result.size = int(sides[0]), int(sides[1])
    for item in tree.iterfind('object'):
        label, box = (item.findtext('name') or '').strip(), item.find('bndbox')
        if not label or box is None:
            what = 'bndbox' if label else 'name'
            result.violations.append(violation('object-incomplete', f'{name}: no {what}'))
            continue
        mark = item.find('difficult')  # an empty one is none
        is_marked = mark is not None and bool((mark.text or '').strip())
        difficult = _numbers(name, item, ('difficult',), result.violations) if is_marked else [0.0]
        corners = _numbers(name, box, _CORNERS, result.violations)
        if corners is None or difficult is None:
            continue
        rule = _corner_rule(corners, result.size if compare else None)
        if rule:
            result.violations.append(violation(rule, f'{name}: {label} {corners}'))
        else:
            result.objects.append((label, corners, bool(difficult[0])))
    return result


def _corner_rule(corners: Sequence[float], size: tuple[int, int] | None) -> str:
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        return 'box-negative'
    if x2 == x1 or y2 == y1:
        return 'box-flat'
    outside = x2 <= 0 or y2 <= 0 or (size is not None and (x1 > size[0] or y1 > size[1]))
    return 'box-outside' if outside else ''


def _numbers(
    name: str, part: ElementTree.Element, tags: Sequence[str], violations: list[Violation]
) -> list[float] | None:
    """Return the numbers of these elements; None, with a violation, where one is no number."""
    numbers = []
    for tag in tags:
        text = part.findtext(tag)
        try:
            number = float(text or '')
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            violations.append(violation('number-bad', f'{name}: {part.tag}/{tag} {text!r}'))
            return None
        numbers.append(number)
    return numbers


def violation(rule: str, example: str = '') -> Violation:
    """Create the violation of a rule of VOC by name."""
    return Violation(VOC_RULES[rule], example)
