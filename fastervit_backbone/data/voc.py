"""What can be wrong with PASCAL VOC on disk, said before anything is built."""

import os
from pathlib import Path

from ..errors import UserError

HOW_TO_GET_VOC = (
    'get the VOC 2007 and 2012 archives from host.robots.ox.ac.uk/pascal/VOC, unpack them and set VOC_ROOT to the VOCdevkit folder '
    '(python tools/prepare_data.py voc does both)'
)


def check_voc(root: str | Path, ann_file: str, year_dir: str) -> int:
    """Check that a split's list, annotations and images are there.

    Args:
        root: the VOCdevkit folder.
        ann_file: the split's list of names, from ``root``.
        year_dir: the folder that holds ``JPEGImages`` and ``Annotations``, from ``root``.

    Returns:
        the number of images.

    Raises:
        UserError: one line with the path expected and what to do.
    """
    root = Path(os.path.abspath(root))
    path = root / ann_file
    if not path.is_file():
        raise UserError(f'no image list at {path}: {HOW_TO_GET_VOC}')
    names = path.read_text().split()
    if not names:
        raise UserError(f'{path} lists 0 images: nothing to train or evaluate on')
    for folder, suffix in (('JPEGImages', '.jpg'), ('Annotations', '.xml')):
        there = {p.name for p in os.scandir(root / year_dir / folder)} if (root / year_dir / folder).is_dir() else set()
        absent = [name + suffix for name in names if name + suffix not in there]
        if absent:
            raise UserError(
                f'{path} lists {absent[0]}, which is not in {root / year_dir / folder} ({len(absent)} of {len(names)}): {HOW_TO_GET_VOC}'
            )
    return len(names)
