"""The one decoder of image files, and the one answer to how large an image is.

Training, evaluation, prediction, checks and pictures see what :func:`read_image` returns. Whatever is wrong
with a file becomes a single line that names it.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..utils.errors import UserError
from ..utils.files import check_regular

#: What can be given as an image: a file, or pixels in RGB.
ImageLike = str | Path | np.ndarray | Image.Image

#: OpenCV reads no longer sides, and no more pixels.
_MAX_SIDE, _MAX_PIXELS = 2**20, 2**30
#: Bits of a channel that pixels may use.
BITS = (8, 10, 12, 14, 16)
#: TIFF and EXIF tags.
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES, _SUBFILE, _PLANAR = (
    256,
    257,
    258,
    262,
    277,
    338,
    254,
    284,
)
_ORIENTATION = 0x0112  # from 5 on the image is stored turned by 90 degrees
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
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever broken EXIF raises: the image itself may be whole
        return 1
    return turn if turn in _UPRIGHT else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) as loaded for training, turned according to EXIF."""
    tags = getattr(image, 'tag_v2', {})  # Pillow turns TIFF itself, sometimes already on opening
    stored = (tags[_WIDTH], tags[_HEIGHT]) if _WIDTH in tags and _HEIGHT in tags else image.size
    return (stored[1], stored[0]) if orientation(image) >= 5 else (stored[0], stored[1])


def unused_channels(image: Image.Image) -> int:
    """Return how many channels of a TIFF are neither color nor transparency: nothing here reads them."""
    tags = getattr(image, 'tag_v2', {})
    extra = tags.get(_EXTRA_SAMPLES, ())
    is_cmyk = tags.get(_PHOTOMETRIC) == 5
    channels = int(tags.get(_SAMPLES, 1)) - (4 if is_cmyk else 3)
    kinds = extra if isinstance(extra, tuple) else (extra,)
    return max(0, channels - sum(kind in (1, 2) for kind in kinds))


def unsupported(image: Image.Image) -> str:
    """Return why an image that Pillow opens is not read, '' for none; ``image``: freshly opened."""
    if image.mode == 'F' or (image.mode == 'I' and image.format != 'PNG'):
        kind = 'floating-point numbers' if image.mode == 'F' else '32-bit integers'
        return f'its pixels are {kind}: write 8 or 16 bits'
    tags = getattr(image, 'tag_v2', {})
    if is_deep(image) and (tags.get(_PHOTOMETRIC) == 0 or tags.get(_PLANAR) == 2):
        # OpenCV reads the one as a negative, and mixes the other's channels up
        kind = 'have 0 for white' if tags.get(_PHOTOMETRIC) == 0 else 'lie one channel after the other'
        return f'its 16 bits {kind}: write them again'
    pages = getattr(image, 'n_frames', 1)
    if pages > 1 and image.format != 'MPO' and not _are_copies(image, pages):
        return f'it has {pages} pages: write a file for each'
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


def bits_of(path: str | Path) -> int:
    """Return the bits that the pixels of a file use, one of :data:`BITS`: 12 where values end at 4095.

    Raises:
        UserError: it cannot be read.
    """
    with open_image(path) as image:
        deep = is_deep(image)
        image.load()
    if not deep:
        return 8
    pixels = _decode(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    most = 255 if pixels is None else int(pixels.max())
    return next(bits for bits in BITS if most < 2**bits)


def read_image(path: str | Path, bits: int | None = None) -> np.ndarray:
    """Read an image as training and evaluation do: turned upright, without alpha.

    8-bit images are read as mmcv reads them, but for an orientation in WebP or XMP, which OpenCV leaves out,
    and TIFF with alpha, by which it multiplies colors.

    Args:
        path: of the file.
        bits: that 16-bit files use, one of :data:`BITS`; None: all 16, of which mmcv takes the upper 8.

    Returns:
        pixels (H, W, 3), uint8, BGR.

    Raises:
        UserError: not an image, damaged (OpenCV by itself would fill the missing part with gray), of several
            pages, or of floating-point numbers.
    """
    with open_image(path) as image:
        reason = unsupported(image)
        if reason:
            raise UserError(f'{path} is not read, {reason}')
        deep = bits is not None and is_deep(image)
        turn = 1 if image.format == 'TIFF' else orientation(image)  # OpenCV turns TIFF whatever it is told
        image.load()
        flags = cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if deep else 0)
        # of TIFF, OpenCV multiplies colors by alpha
        is_alpha = image.format == 'TIFF' and image.mode in ('RGBA', 'LA') and not deep
        pixels = None if is_alpha else _decode(path, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:  # a format that only Pillow reads
            pixels = _bgr_of(image, bits)
    return _upright(_to_8_bits(pixels, bits), turn)


def read_picture(path: str | Path) -> Image.Image:
    """Read an image to look at, in RGB: as :func:`read_image`, with the bits that the file itself uses."""
    return Image.fromarray(np.ascontiguousarray(read_image(path, bits_of(path))[..., ::-1]))


def as_bgr(image: ImageLike, bits: int | None = None) -> np.ndarray:
    """Return the pixels (H, W, 3), uint8, BGR, of what is given as an image.

    Args:
        image: a file, a Pillow image, or pixels (H, W, 3) in RGB, uint8 or uint16.
        bits: as in :func:`read_image`.

    Raises:
        UserError: neither a readable file, nor a Pillow image, nor RGB pixels.
    """
    if isinstance(image, str | Path):
        return read_image(image, bits)
    if isinstance(image, Image.Image):
        name = str(getattr(image, 'filename', ''))
        if getattr(image, 'tile', ()) and is_deep(image) and os.path.isfile(name):
            return read_image(name, bits)  # Pillow has only 8 bits of its colors
        if bits is not None and image.mode == 'RGB' and os.path.isfile(name) and _is_deep_file(name):
            raise UserError(
                f'{name} was loaded by Pillow, which keeps 8 of its 16 bits: give the file itself'
            )
        reason = unsupported(image)
        if reason:
            raise UserError(f'this image is not read, {reason}')
        turn = 1 if image.format == 'TIFF' else orientation(image)
        return _upright(_bgr_of(image, bits), turn)
    if not isinstance(image, np.ndarray):
        given = type(image).__name__
    elif image.ndim == 3 and image.shape[2] == 3 and image.dtype in (np.uint8, np.uint16) and image.size:
        return _to_8_bits(np.ascontiguousarray(image[..., ::-1]), bits)
    else:
        given = f'{image.dtype} {image.shape}'
    raise UserError(
        'an image must be a file, a Pillow image or an array (H, W, 3), uint8 or uint16, RGB, '
        f'but got {given}'
    )


def _is_deep_file(path: str) -> bool:
    with open_image(path) as image:
        return is_deep(image)


def _decode(path: str | Path, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), flags)
    except cv2.error:  # what it cannot read
        return None


def _bgr_of(image: Image.Image, bits: int | None) -> np.ndarray:
    """Convert a Pillow image as OpenCV converts the same file; it is not turned."""
    if image.mode.startswith('I'):
        gray = np.asarray(image).astype(np.uint16)
        return _to_8_bits(np.repeat(gray[..., None], 3, 2), bits)
    if image.mode == 'CMYK':  # OpenCV: without a color profile, in whole numbers
        inks = 255 - np.asarray(image).astype(np.int32)
        color, black = inks[..., :3], inks[..., 3:]
        return np.ascontiguousarray((black - ((255 - color) * black >> 8)).astype(np.uint8)[..., ::-1])
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])


def _to_8_bits(pixels: np.ndarray, bits: int | None) -> np.ndarray:
    if pixels.dtype != np.uint16:
        return pixels
    return np.minimum(pixels >> ((bits or 16) - 8), 255).astype(np.uint8)


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    return np.ascontiguousarray(_UPRIGHT[turn](pixels)) if turn in _UPRIGHT else pixels
