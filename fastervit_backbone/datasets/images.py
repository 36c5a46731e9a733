"""The one decoder of image files, and the one answer to how large an image is.

Training, evaluation, prediction, checks and pictures see what :func:`read_image` returns. Whatever is wrong
with a file becomes a single line that names it.
"""

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..utils.errors import UserError
from .image_files import ARRAYS
from .image_headers import is_deep, open_image, orientation, unsupported, upright
from .multichannel import channels_of, checked_channels, colors_of, read_channels
from .pixel_format import BITS, COLOR, PixelFormat, picture_of

#: What can be given as an image: a file, or pixels, of colors in RGB.
ImageLike = str | Path | np.ndarray | Image.Image


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


def read_image(path: str | Path, pixels: PixelFormat = COLOR) -> np.ndarray:
    """Read an image as training and evaluation do: turned upright, colors without alpha.

    8-bit colors are read as mmcv reads them, but for an orientation in WebP or XMP, which OpenCV leaves out,
    and TIFF with alpha, by which it multiplies colors.

    Args:
        path: of the file.
        pixels: whether colors, or all channels, are read; without ``bits``, the upper 8 of 16.

    Returns:
        colors (H, W, 3), uint8, BGR, or channels (H, W, N), float32, in the numbers of the file.

    Raises:
        UserError: not an image, damaged (OpenCV by itself would fill the missing part with gray), or of
            other channels or pages than expected.
    """
    if not pixels.is_color:
        return read_channels(path, pixels.channels, pixels.dtype)
    bits = pixels.bits
    if Path(path).suffix.lower() == ARRAYS:
        raise UserError(f'{path} is no image of colors: LoadImageFromFile reads it with channels=N')
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
        array = None if is_alpha else _decode(path, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        if array is None:  # a format that only Pillow reads
            array = _bgr_of(image, bits)
    return upright(_to_8_bits(array, bits), turn)


def check_decodes(path: str | Path) -> None:
    """Raise UserError if the pixels of an image or label map cannot be decoded."""
    if channels_of(path).colors:
        with open_image(path) as image:
            image.load()
    else:
        read_channels(path)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) of an image file, turned upright; UserError if it is none."""
    return channels_of(path).size


def read_picture(path: str | Path, pixels: PixelFormat | None = None) -> Image.Image:
    """Read an image to look at, in RGB.

    Args:
        path: of the file.
        pixels: how it is read; None: as the file itself says, with the bits that it uses.
    """
    if pixels is not None:
        bgr = pixels.picture(read_image(path, pixels))
    elif channels_of(path).colors:
        bgr = read_image(path, PixelFormat(bits_of(path)))
    else:
        bgr = picture_of(read_channels(path))
    return Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))


def as_pixels(image: ImageLike, pixels: PixelFormat = COLOR) -> np.ndarray:
    """Return what is given as an image like :func:`read_image`.

    Args:
        image: a file, a Pillow image, or an array: of colors (H, W, 3) in RGB, uint8 or uint16; of channels
            (H, W) or (H, W, N), whatever the kind of its numbers.
        pixels: as in :func:`read_image`.

    Raises:
        UserError: neither a readable file, nor a Pillow image, nor such an array.
    """
    if isinstance(image, str | Path):
        return read_image(image, pixels)
    if not pixels.is_color:
        turn = 1
        if isinstance(image, Image.Image):
            found = colors_of(image)
            if found.problem:
                raise UserError(f'this image is not read, {found.problem}')
            turn = found.orientation
        return checked_channels(upright(np.asarray(image), turn), pixels.channels, 'the image')
    bits = pixels.bits
    if isinstance(image, Image.Image):
        name = str(getattr(image, 'filename', ''))
        if getattr(image, 'tile', ()) and is_deep(image) and os.path.isfile(name):
            return read_image(name, pixels)  # Pillow has only 8 bits of its colors
        if bits is not None and image.mode == 'RGB' and os.path.isfile(name) and _is_deep_file(name):
            raise UserError(
                f'{name} was loaded by Pillow, which keeps 8 of its 16 bits: give the file itself'
            )
        reason = unsupported(image)
        if reason:
            raise UserError(f'this image is not read, {reason}')
        turn = 1 if image.format == 'TIFF' else orientation(image)
        return upright(_bgr_of(image, bits), turn)
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
