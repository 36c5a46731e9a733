"""Open image files and report what they turned out to be."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...utils.errors import UserError
from ...utils.files import is_file
from ...utils.progress import progress_bar
from ..images import map_in_threads, open_image, orientation, unused_channels, upright_size


@dataclass(frozen=True)
class ImageFile:
    """What an image file turned out to be.

    Args:
        problem: '', 'image-missing' or 'image-unreadable'.
        channels: '', or 'image-channels' if some are not read.
        orientation: of EXIF.
        size: (width, height) as training sees it, or None.
        digest: hash of its content, or None.
    """

    problem: str = ''
    size: tuple[int, int] | None = None
    digest: str | None = None
    channels: str = ''
    orientation: int = 1

    def rules(self) -> list[str]:
        """Return the ids of the rules of :data:`.rules.IMAGE_RULES` that the file breaks."""
        return [rule for rule in (self.problem, self.channels) if rule]


def look(path: Path, read: bool = True) -> ImageFile:
    """Open an image file, or with ``read=False`` only check that it exists."""
    if not is_file(path):
        return ImageFile('image-missing')
    if not read:
        return ImageFile()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with open_image(path) as image:
            size, channels = upright_size(image), 'image-channels' if unused_channels(image) else ''
            turn = orientation(image)
            image.load()
    except UserError:
        return ImageFile('image-unreadable', digest=digest)
    return ImageFile(size=size, digest=digest, channels=channels, orientation=turn)


def look_all(paths: Sequence[Path], title: str, read: bool = True) -> Iterator[ImageFile]:
    """Yield :func:`look` of each path, in their order, with a progress bar of this title."""
    files = map_in_threads(lambda path: look(path, read), paths)
    return progress_bar(files, len(paths), title)
