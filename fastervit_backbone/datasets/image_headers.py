"""Open image files with Pillow, and tell of them what their headers say.

Whatever is wrong with a file becomes a single line that names it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.errors import UserError
from ..utils.files import check_regular

#: OpenCV reads no longer sides, and no more pixels.
_MAX_SIDE, _MAX_PIXELS = 2**20, 2**30
#: TIFF and EXIF tags.
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SUBFILE, _PLANAR = 256, 257, 258, 262, 254, 284
ORIENTATION = 0x0112  # from 5 on the image is stored turned by 90 degrees
#: EXIF orientation -> how stored pixels are turned upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}
_lock = threading.Lock()
_limits: list[int | None] = []  # Pillow's own limit, then an entry for each open image


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image with Pillow, for a ``with`` block that reads nothing else.

    Raises:
        UserError: the file is not an image or is damaged, whether that shows on opening or in the block.
    """
    check_regular(path)
    try:
        with _without_limit(), Image.open(path) as image:
            width, height = image.size
            if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
                raise ValueError(f'{width}x{height} pixels, more than OpenCV reads')
            yield image
    except UserError:
        raise
    # Pillow calls a broken PNG a SyntaxError
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise UserError(
            f'{path} cannot be read as an image ({error}): write or unpack it again, or remove it'
        ) from error


@contextmanager
def _without_limit() -> Iterator[None]:
    """Lift Pillow's limit, a sixth of OpenCV's, while an image is open in any thread."""
    with _lock:
        if not _limits:
            _limits.append(Image.MAX_IMAGE_PIXELS)
            Image.MAX_IMAGE_PIXELS = None
        _limits.append(None)
    try:
        yield
    finally:
        with _lock:
            _limits.pop()
            if len(_limits) == 1:
                Image.MAX_IMAGE_PIXELS = _limits.pop()


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 turned by 90 degrees.

    It is read from EXIF or XMP, in any format; of a TIFF before its pixels are loaded.
    """
    try:
        tag = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever broken EXIF raises: the image itself may be whole
        return 1
    return known_turn(tag)


def known_turn(tag: object) -> int:
    """Return an orientation as a file states it; 1, upright, for what is none."""
    return int(tag) if tag in _UPRIGHT else 1  # type: ignore[call-overload]


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) as loaded for training, turned according to EXIF."""
    tags = getattr(image, 'tag_v2', {})  # Pillow turns TIFF itself, sometimes already on opening
    stored = (tags[_WIDTH], tags[_HEIGHT]) if _WIDTH in tags and _HEIGHT in tags else image.size
    return (stored[1], stored[0]) if orientation(image) >= 5 else (stored[0], stored[1])


def unsupported(image: Image.Image) -> str:
    """Return why an image that Pillow opens is not read, '' for none; ``image``: freshly opened."""
    if image.mode == 'F' or (image.mode == 'I' and image.format != 'PNG'):
        kind = 'floating-point numbers' if image.mode == 'F' else '32-bit integers'
        return f'its pixels are {kind}: write 8 or 16 bits, or read them with channels=N'
    tags = getattr(image, 'tag_v2', {})
    if is_deep(image) and (tags.get(_PHOTOMETRIC) == 0 or tags.get(_PLANAR) == 2):
        # OpenCV reads the one as a negative, and mixes the other's channels up
        kind = 'have 0 for white' if tags.get(_PHOTOMETRIC) == 0 else 'lie one channel after the other'
        return f'its 16 bits {kind}: write them again'
    pages = getattr(image, 'n_frames', 1)
    if pages > 1 and image.format != 'MPO' and not _are_copies(image, pages):
        hint = f', or read them with channels={pages}' if len(image.getbands()) == 1 else ''
        return f'it has {pages} pages: write a file for each{hint}'
    return ''


def _are_copies(image: Image.Image, pages: int) -> bool:
    """Whether all pages but the first are reduced copies of it, as in whole slides."""
    if image.format != 'TIFF':
        return False
    try:
        for page in range(1, pages):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE, 0) & 1:  # type: ignore[attr-defined]
                return False
    finally:
        image.seek(0)
    return True


def is_deep(image: Image.Image) -> bool:
    """Whether the channels of a file have 16 bits; ``image``: not loaded yet."""
    tags = getattr(image, 'tag_v2', {})
    if any(bits > 8 for bits in tags.get(_BITS, ())):
        return True
    return image.mode.startswith('I') or any(';16' in str(tile[3]) for tile in getattr(image, 'tile', ()))


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Turn pixels (H, W, ...) as an EXIF orientation says."""
    return np.ascontiguousarray(_UPRIGHT[turn](pixels)) if turn in _UPRIGHT else pixels
