"""Find image files, and read them in several threads."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..utils.files import is_file

R = TypeVar('R')


#: Suffix of arrays, for channels that are no colors.
ARRAYS = '.npy'
#: Suffixes of image files, in lower case.
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', ARRAYS)


def map_in_threads(function: Callable[..., R], *items: Iterable) -> Iterator[R]:
    """Yield ``function`` of each item, in their order; files are read in several threads."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(function, *items)


def images_below(folder: str | Path, suffixes: tuple[str, ...] = IMAGES) -> list[Path]:
    """List the image files in a folder and its subfolders, sorted, but for hidden ones (``._a.png``)."""
    return sorted(path for path in walk_files(folder, suffixes) if is_file(path))


def walk_files(folder: str | Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a folder that end in ``suffixes``: its own by name, then those of its subfolders.

    Hidden ones are left out; links to folders are followed, each folder once. Where there are pictures, .npy
    files are something else (caches, embeddings): they are images only where all are.
    """
    arrays: list[Path] = []
    has_pictures = False
    for path in _walk(folder, suffixes):
        if path.suffix.lower() != ARRAYS:
            has_pictures = has_pictures or path.suffix.lower() in IMAGES  # not: a video, a json
            yield path
        elif not has_pictures:
            arrays.append(path)
    if not has_pictures:
        yield from arrays


def _walk(folder: str | Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    seen: set[str] = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        for name in sorted(names):
            if name.lower().endswith(suffixes) and not name.startswith('.'):
                yield Path(place, name)
