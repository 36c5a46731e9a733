"""Unpack small data sets whose JPEG files are packed in npz files."""

import json
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..utils.errors import UserError
from ..utils.progress import progress_bar


def unpack_images(source: str | Path, out: str | Path) -> dict[str, int]:
    """Write the images of every split to ``OUT/SPLIT/CLASS/NUMBER.jpg``; files that exist are kept.

    Args:
        source: folder of ``SPLIT.npz`` (``jpeg``: all files one after the other, uint8; ``sizes``: bytes of
            each; ``labels``: of each) and ``classes.json``: for each label ``wnid`` or ``name``, which the
            folder gets.
        out: folder to write to.

    Returns:
        split -> number of images.

    Raises:
        UserError: a file is missing or its parts do not fit each other.
    """
    source, counts = Path(source), {}
    packed = sorted(source.glob('*.npz'))
    if not packed or not (source / 'classes.json').is_file():
        raise UserError(f'{source} has no SPLIT.npz and classes.json')
    entries = json.loads((source / 'classes.json').read_text())
    folders = [str(entry.get('wnid') or entry['name']) for entry in entries]
    for folder in folders:
        if Path(folder).name != folder:
            raise UserError(f'{source / "classes.json"}: {folder!r} is no name of a folder: copy it again')
    for path in packed:
        try:
            with np.load(path) as content:
                jpeg, sizes, labels = (content[name] for name in ('jpeg', 'sizes', 'labels'))
        except (BadZipFile, KeyError, OSError, ValueError) as error:
            raise UserError(f'{path} is no packed data set ({error}): copy it again') from error
        if len(sizes) != len(labels) or int(sizes.sum()) != len(jpeg) or int(labels.max()) >= len(folders):
            raise UserError(f'{path}: its parts do not fit each other: copy it again')
        root = Path(out) / path.stem
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        ends = np.cumsum(sizes)
        pairs = enumerate(zip(ends - sizes, ends, labels, strict=True))
        for number, (start, end, label) in progress_bar(pairs, len(labels), path.name):
            target = root / folders[label] / f'{number:06}.jpg'
            if not target.exists():
                target.write_bytes(jpeg[start:end].tobytes())
        counts[path.stem] = len(labels)
    return counts
