"""Images of other channels than colors: any number, of 8, 16 or 32 bits or floating-point; TIFF, PNG, npy.

TIFF is read by tifffile, compressed in rare ways with imagecodecs (extra ``tiff``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from ..utils.errors import UserError
from ..utils.files import check_regular
from .image_files import ARRAYS
from .image_headers import ORIENTATION, is_deep, known_turn, open_image, orientation, upright, upright_size
from .pixel_format import MOST_CHANNELS

if TYPE_CHECKING:
    from tifffile import TiffPage

#: How a TIFF and a BigTIFF begin, of either order of bytes.
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
#: Kinds of a further channel of TIFF that are transparency.
_ALPHA = (1, 2)
#: Why channels of an image with a palette are not read.
_PALETTE = 'it has a palette, whose numbers mean nothing: write its colors'


class ChannelsError(UserError):
    """A file that is whole, and no image of the channels that are read."""


@dataclass(frozen=True)
class Channels:
    """What the header of an image file says.

    Args:
        size: (width, height), turned upright.
        count: channels, all of them.
        dtype: of its numbers: 'uint8', 'uint16', ..., or 'float' of any length.
        colors: whether it is gray or RGB, perhaps with transparency, of 8 or 16 bits, in one page.
        problem: why its channels cannot be read, '' for none; its colors may be.
        transparency: whether a channel is taken for transparency.
        orientation: of EXIF, or TIFF's.
    """

    size: tuple[int, int]
    count: int
    dtype: str
    colors: bool
    problem: str = ''
    transparency: bool = False
    orientation: int = 1

    def __str__(self) -> str:
        return f'{self.count} channel{"s" * (self.count != 1)} of {self.dtype}'


def channels_of(path: str | Path) -> Channels:
    """Read the header of an image file.

    Raises:
        UserError: it is no image, or has channels that cannot be told.
    """
    path = Path(path)
    if not may_have_others(path):
        with open_image(path) as image:
            return colors_of(image)
    if path.suffix.lower() != ARRAYS:
        return _of_tiff(path)
    array = _open_npy(path)
    height, width, count = _shape(path, array)
    return Channels((width, height), count, _name_of(array.dtype), False)


def colors_of(image: Image.Image) -> Channels:
    """Return what the header of an image says that is no TIFF; ``image``: freshly opened."""
    bands = 3 if image.mode == 'P' else len(image.getbands())
    dtype = 'bool' if image.mode == '1' else 'uint16' if is_deep(image) else 'uint8'
    size, turn = upright_size(image), orientation(image)  # last, for EXIF may load the pixels
    problem = _PALETTE if image.mode == 'P' else ''
    return Channels(size, bands, dtype, True, problem, image.mode in ('LA', 'RGBA'), turn)


def may_have_others(path: Path) -> bool:
    """Whether a file can have other channels than colors: an array or a TIFF."""
    return path.suffix.lower() == ARRAYS or _is_tiff(path)


def read_channels(path: str | Path, count: int | None = None, dtype: str | None = None) -> np.ndarray:
    """Read all channels of an image, in their order in the file and in its numbers; turned upright.

    Args:
        path: .npy of (H, W) or (H, W, channels), TIFF (pages of one sample a pixel are channels), or an image
            with transparency or without.
        count: how many channels there must be; None: any.
        dtype: what numbers the file must have, as :class:`Channels` names them; None: any.

    Returns:
        (H, W, channels), float32; whole numbers above 2^24 are rounded.

    Raises:
        UserError: it cannot be read, has another number of channels, or holds numbers that are not finite.
    """
    path = Path(path)
    if path.suffix.lower() == ARRAYS:
        array = _open_npy(path)
        pixels = np.asarray(array).reshape(_shape(path, array))
    else:
        pixels = _read_tiff(path) if _is_tiff(path) else _read_other(path)
    result = checked_channels(pixels, count, str(path))
    if dtype is not None and _name_of(pixels.dtype) != dtype:
        raise ChannelsError(f'{path} has numbers of {_name_of(pixels.dtype)}, but {dtype} is expected')
    return result


def _name_of(dtype: np.dtype) -> str:
    """Name a kind of numbers; floats of any length are one kind."""
    return 'float' if dtype.kind == 'f' else dtype.name


def _is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF, whatever its name is."""
    check_regular(path)
    try:
        with path.open('rb') as file:
            return file.read(4) in _TIFF
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror or error}): check the path') from error


def checked_channels(pixels: np.ndarray, count: int | None, name: str) -> np.ndarray:
    """Return pixels (H, W) or (H, W, N) as (H, W, N), float32.

    Raises:
        UserError: another shape, not ``count`` channels, or numbers that are none, NaN or infinite.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or not pixels.size or pixels.dtype.kind not in 'uifb':
        raise ChannelsError(f'{name}: {pixels.dtype} {pixels.shape} is no image (H, W) or (H, W, channels)')
    if count is not None and pixels.shape[2] != count:
        raise ChannelsError(f'{name} has {pixels.shape[2]} channels, but {count} are expected')
    result = np.ascontiguousarray(pixels, np.float32)
    if pixels.dtype.kind == 'f':  # whole numbers of 64 bits fit, too
        wrong = int(result.size - np.isfinite(result).sum())
        if wrong:
            raise ChannelsError(
                f'{name}: {wrong} of {result.size} numbers are NaN or infinite (or too large for 32 bits): '
                'write a number where there is no value'
            )
    return result


def _open_npy(path: Path) -> np.ndarray:
    check_regular(path)
    try:
        return np.load(path, mmap_mode='r', allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f'{path} cannot be read as an array ({error}): write it again, or remove it'
        ) from error


def _shape(path: Path, array: np.ndarray) -> tuple[int, int, int]:
    """Return (height, width, channels) of an array; UserError where that is not its last axis."""
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or not array.size:
        shape = getattr(array, 'shape', ())
        raise ChannelsError(f'{path} has the shape {shape}, expected (H, W) or (H, W, channels)')
    if array.dtype.kind not in 'uifb':
        raise ChannelsError(f'{path} holds {array.dtype}, which are no numbers of pixels')
    if array.ndim == 2:
        return array.shape[0], array.shape[1], 1
    if array.shape[2] > MOST_CHANNELS or array.shape[2] > min(array.shape[:2]):
        raise ChannelsError(
            f'{path} has the shape {array.shape}: channels must be its last axis, at most {MOST_CHANNELS} '
            '(np.moveaxis(array, 0, -1) puts the first one last)'
        )
    return array.shape[0], array.shape[1], array.shape[2]


@contextmanager
def _pages_of(path: Path) -> Iterator['list[TiffPage]']:
    """Open a TIFF for a ``with`` block: its pages, but for reduced copies and masks.

    Raises:
        UserError: it is damaged, whether that shows on opening or in the block.
    """
    from tifffile import TiffFile  # a tenth of a second, which those without TIFF are spared

    check_regular(path)
    try:
        with TiffFile(path) as file:
            others = [page.aspage() for page in file.pages[1 : MOST_CHANNELS + 2]]
            yield [file.pages[0], *(p for p in others if not (p.is_reduced or p.is_mask))]
    except UserError:
        raise
    except Exception as error:  # tifffile, and what decodes for it, raise of any kind
        if 'imagecodecs' in str(error):
            message = f"{path} is not read, {error}: pip install 'fastervit_backbone[tiff]' adds it"
            raise ChannelsError(message) from error
        raise UserError(
            f'{path} cannot be read as an image ({error}): write or unpack it again, or remove it'
        ) from error


def _of_tiff(path: Path) -> Channels:
    with _pages_of(path) as pages:
        first = pages[0]
        size = (first.imagewidth, first.imagelength)
        alpha = sum(kind in _ALPHA for kind in first.extrasamples)
        colors = first.samplesperpixel - alpha
        of_kind = {'CMYK': 4, 'SEPARATED': 4, 'RGB': 3, 'YCBCR': 3, 'CIELAB': 3}
        is_color = (
            len(pages) == 1
            and first.dtype is not None
            and first.dtype.name in ('bool', 'uint8', 'uint16')
            and colors == of_kind.get(first.photometric.name, 1)
        )
        count = first.samplesperpixel if len(pages) == 1 else len(pages)
        dtype = 'unknown numbers' if first.dtype is None else _name_of(first.dtype)
        turned = size[::-1] if _turn(first) >= 5 else size
        problem = '' if is_color else _problem(pages)
        return Channels(turned, count, dtype, is_color, problem, alpha > 0, _turn(first))


def _problem(pages: 'list[TiffPage]') -> str:
    """Tell why the pages of a TIFF are no channels of one image; '' if they are."""
    first = pages[0]
    if len(pages) > 1 and (
        len({(p.shape, p.samplesperpixel, p.dtype) for p in pages}) > 1
        or first.samplesperpixel > 1
        or len(pages) > min(MOST_CHANNELS, first.imagewidth, first.imagelength)  # rows taken for pages
    ):
        more = 'more than ' if len(pages) > MOST_CHANNELS else ''
        number = min(len(pages), MOST_CHANNELS)
        if first.samplesperpixel > 1:
            return f'it has {more}{number} pages: write a file for each'
        told = f'it has {more}{number} pages of {first.imagewidth}x{first.imagelength} pixels'
        return f'{told}: write a file for each, or channels as samples (planarconfig)'
    if first.photometric.name == 'PALETTE':
        return _PALETTE
    if first.samplesperpixel > MOST_CHANNELS:
        return f'it has {first.samplesperpixel} channels: at most {MOST_CHANNELS} are read'
    return ''


def _turn(page: 'TiffPage') -> int:
    tag = page.tags.get(ORIENTATION)
    return 1 if tag is None else known_turn(tag.value)


def _read_tiff(path: Path) -> np.ndarray:
    with _pages_of(path) as pages:
        first, problem = pages[0], _problem(pages)
        if problem:
            raise ChannelsError(f'{path} is not read, {problem}')
        arrays = [page.asarray() for page in pages]
        array = arrays[0] if len(arrays) == 1 else np.stack(arrays, -1)
        if len(arrays) == 1 and first.samplesperpixel > 1 and first.planarconfig.name == 'SEPARATE':
            array = np.moveaxis(array, 0, -1)
        return upright(array, _turn(first))


def _read_other(path: Path) -> np.ndarray:
    """Read all channels of a PNG, a JPEG, ...: with transparency where there is some."""
    with open_image(path) as image:
        if image.mode == 'P':
            raise ChannelsError(f'{path} is not read, {_PALETTE}')
        if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':
            raise ChannelsError(f'{path} is not read, it has {image.n_frames} pages: write a file for each')
        deep, bands = is_deep(image), len(image.getbands())  # before EXIF is read, which may load the pixels
        turn = orientation(image)
        if bands > 1 and deep:  # of which Pillow keeps 8 bits
            array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
            if array is None or array.ndim != 3 or array.shape[2] != bands:
                raise UserError(f'{path}: its {bands} channels of 16 bits are not read, write TIFF or npy')
            array = array[..., [2, 1, 0, 3][:bands]]
        else:
            array = np.asarray(image)
    return upright(array, turn)
