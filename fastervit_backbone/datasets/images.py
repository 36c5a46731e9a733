"""Image files opened so that whatever is wrong with one becomes a line that names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ..utils.errors import UserError

#: Endings of image files, in small letters.
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
_ORIENTATION = 0x0112  # EXIF's tag; from 5 on the image is stored on its side


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Pillow's image of a file, for a ``with`` block that reads nothing else.

    Raises:
        UserError: the file is no image or is damaged, whether that shows when it is opened or in the block.
    """
    try:
        with Image.open(path) as image:
            yield image
    except UserError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # Pillow calls a broken PNG a SyntaxError
        raise UserError(
            f'{path} cannot be read as an image ({error}): write or unpack it again, or take it out'
        ) from error


def images_below(folder: str | Path) -> list[Path]:
    """Image files in a folder and those within it, sorted."""
    return sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in IMAGES)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as it is when loaded for training, turned as EXIF says."""
    return image.size[::-1] if image.getexif().get(_ORIENTATION, 1) >= 5 else image.size
