"""Open image files; whatever is wrong with one becomes a single line that names it."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..utils.errors import UserError
from ..utils.files import check_regular

R = TypeVar('R')

#: Suffixes of image files, in lower case.
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
#: OpenCV reads no longer sides.
_MAX_SIDE = 2**20
#: TIFF tags.
_PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES = 262, 277, 338
_ORIENTATION = 0x0112  # EXIF tag; from 5 on the image is stored rotated by 90 degrees


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image with Pillow, for a ``with`` block that reads nothing else.

    Raises:
        UserError: the file is not an image or is damaged, whether that shows on opening or in the block.
    """
    check_regular(path)
    try:
        with Image.open(path) as image:
            if max(image.size) > _MAX_SIDE:
                raise ValueError(f'a side of {max(image.size)} pixels, at most {_MAX_SIDE}')
            yield image
    except UserError:
        raise
    # Pillow calls a broken PNG a SyntaxError
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise UserError(
            f'{path} cannot be read as an image ({error}): write or unpack it again, or remove it'
        ) from error


def map_in_threads(function: Callable[..., R], *items: Iterable) -> Iterator[R]:
    """Yield ``function`` of each item, in their order; files are read in several threads."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(function, *items)


def images_below(folder: str | Path) -> list[Path]:
    """List the image files in a folder and its subfolders, sorted, but for hidden ones (``._a.png``)."""
    folder = Path(folder)
    found = (p for p in folder.rglob('*') if p.suffix.lower() in IMAGES and p.is_file())
    return sorted(p for p in found if not is_hidden(p.relative_to(folder)))


def is_hidden(path: Path) -> bool:
    """Whether a relative path is a hidden file, or in a hidden folder."""
    return any(part.startswith('.') for part in path.parts)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) as loaded for training, rotated according to EXIF."""
    return image.size[::-1] if orientation(image) >= 5 else image.size


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 turned by 90 degrees."""
    return image.getexif().get(_ORIENTATION, 1)


def unused_channels(image: Image.Image) -> int:
    """Return how many channels of a TIFF are neither color nor transparency: nothing here reads them."""
    tags = getattr(image, 'tag_v2', {})
    extra = tags.get(_EXTRA_SAMPLES, ())
    is_cmyk = tags.get(_PHOTOMETRIC) == 5
    channels = int(tags.get(_SAMPLES, 1)) - (4 if is_cmyk else 3)
    kinds = extra if isinstance(extra, tuple) else (extra,)
    return max(0, channels - sum(kind in (1, 2) for kind in kinds))
