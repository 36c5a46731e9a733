"""What can be wrong with PASCAL VOC on disk, said before anything is built."""

import difflib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..utils.errors import UserError

HOW_TO_GET_VOC = (
    'get the VOC 2007 and 2012 archives from host.robots.ox.ac.uk/pascal/VOC, unpack them and set VOC_ROOT to the VOCdevkit folder '
    '(python tools/prepare_data.py voc does both)'
)


def check_voc(root: str | Path, ann_file: str, year_dir: str, classes: Sequence[str] | None = None) -> int:
    """Check that a split's list, annotations and images are there, that the annotations can be read and that the classes are in them.

    Args:
        root: the VOCdevkit folder.
        ann_file: the split's list of names, from ``root``.
        year_dir: the folder that holds ``JPEGImages`` and ``Annotations``, from ``root``.
        classes: names of which at least one must be in the annotations; None takes any.

    Returns:
        the number of images.

    Raises:
        UserError: one line with the path expected and what to do.
    """
    root = Path(os.path.abspath(root))
    path = root / ann_file
    if not path.is_file():
        raise UserError(f'no image list at {path}: {HOW_TO_GET_VOC}')
    names = _read_list(path)
    if not names:
        raise UserError(f'{path} lists 0 images: nothing to train or evaluate on')
    for folder, suffix in (('JPEGImages', '.jpg'), ('Annotations', '.xml')):
        there = (
            {p.name for p in os.scandir(root / year_dir / folder)}
            if (root / year_dir / folder).is_dir()
            else set()
        )
        absent = [name + suffix for name in names if name + suffix not in there]
        if absent:
            raise UserError(
                f'{path} lists {absent[0]}, which is not in {root / year_dir / folder} ({len(absent)} of {len(names)}): {HOW_TO_GET_VOC}'
            )
    found = set()
    for name in names:
        found.update(_names_in(root / year_dir / 'Annotations' / f'{name}.xml'))
    if classes is not None and not found & set(classes):
        near = [
            n for c in classes for n in difflib.get_close_matches(c.lower(), [f.lower() for f in found], n=1)
        ]
        meant = f' (did you mean {next(f for f in sorted(found) if f.lower() == near[0])!r}?)' if near else ''
        raise UserError(
            f'{path}: no object of the classes {list(classes)[:20]} in {len(names)} annotations, which have {sorted(found)[:20]}{meant}: '
            'set metainfo.classes of the data sets to those'
        )
    return len(names)


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not a text ({error}): it needs one image name a line') from error
    more = next((line for line in lines if len(line.split()) != 1 or line != line.strip()), None)
    if (
        more is not None
    ):  # mmdet takes whole lines as names; VOC's lists of a single class have a second column
        raise UserError(
            f'{path} has the line {more!r}: it needs one image name a line and nothing else, as ImageSets/Main/train.txt has'
        )
    return lines


def _names_in(path: Path) -> set[str]:
    """Names of the objects, whose boxes must be numbers; mmdet takes that for granted."""
    try:
        tree = ElementTree.parse(path)
    except (ElementTree.ParseError, OSError) as error:
        raise UserError(f'{path} cannot be read ({error}): unpack or write it again') from error
    wanted = [tree.find('size')] if tree.find('size') is not None else []
    numbers = [(part, name) for part in wanted for name in ('width', 'height')]
    names = set()
    for part in tree.iterfind('object'):
        names.add(part.findtext('name') or '')
        box = part.find('bndbox')
        if not part.findtext('name') or box is None:
            raise UserError(
                f'{path} has an object without {"bndbox" if part.findtext("name") else "name"}: write it again'
            )
        numbers += [(box, name) for name in ('xmin', 'ymin', 'xmax', 'ymax')]
        numbers += [(part, 'difficult')] if part.find('difficult') is not None else []
    for part, name in numbers:
        text = part.findtext(name)
        try:
            whole = float(text or '')
        except ValueError:
            whole = math.nan
        if not math.isfinite(whole):
            raise UserError(f'{path} has {text!r} as {part.tag}/{name}: it needs a number of pixels')
    return names
