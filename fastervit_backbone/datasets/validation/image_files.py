"""Open image files and report what they turned out to be."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from ...utils.errors import UserError
from ...utils.files import is_file
from ...utils.progress import progress_bar
from ..image_files import map_in_threads
from ..images import bits_of, is_deep, open_image, orientation, unsupported, unused_channels, upright_size

#: How much of image files is read: everything, what gives the size, or only whether they exist.
Read: TypeAlias = Literal['all', 'size', 'exists']
#: Bytes at both ends of a file of which ``size`` makes a digest.
_ENDS = 2**13


@dataclass(frozen=True)
class ImageFile:
    """What an image file turned out to be.

    Args:
        problem: '', 'image-missing', 'image-unreadable' or 'image-unsupported'.
        size: (width, height) as training sees it, or None.
        digest: hash of its content, or None.
        channels: '', or 'image-channels' if some are not read.
        orientation: of EXIF.
        bits: that its pixels use of 16; None for an image of 8.
        reason: why it is not supported.
    """

    problem: str = ''
    size: tuple[int, int] | None = None
    digest: str | None = None
    channels: str = ''
    orientation: int = 1
    bits: int | None = None
    reason: str = ''

    def rules(self) -> list[str]:
        """Return the ids of the rules of :data:`..rules.IMAGE_RULES` that the file breaks."""
        dark = 'image-dark' if self.bits is not None and self.bits < 16 else ''
        return [rule for rule in (self.problem, self.channels, dark) if rule]

    def example(self, rule: str, name: str) -> str:
        """Say of the file ``name`` how it breaks a rule."""
        more = {'image-unsupported': self.reason, 'image-dark': f'{self.bits} of 16 bits'}.get(rule)
        return f'{name}: {more}' if more else name


def look(path: Path, read: Read = 'all') -> ImageFile:
    """Open an image file, as far as ``read`` says."""
    if not is_file(path):
        return ImageFile('image-missing')
    if read == 'exists':
        return ImageFile()
    digest = _digest(path, read)
    try:
        with open_image(path) as image:
            reason, deep = unsupported(image), is_deep(image)
            turn = orientation(image)
            size, channels = upright_size(image), 'image-channels' if unused_channels(image) else ''
            if read == 'all':
                image.load()
        bits = bits_of(path) if deep and not reason else None
    except UserError:
        return ImageFile('image-unreadable', digest=digest)
    problem = 'image-unsupported' if reason else ''
    return ImageFile(problem, size, digest, channels, turn, bits, reason)


def look_all(paths: Sequence[Path], title: str, read: Read = 'all') -> Iterator[ImageFile]:
    """Yield :func:`look` of each path, in their order, with a progress bar of this title."""
    # threads decode beside each other; what else is read of a file is Python's work, which they only delay
    apply = map_in_threads if read == 'all' else map
    return progress_bar(apply(partial(look, read=read), paths), len(paths), title)


def _digest(path: Path, read: Read) -> str:
    if read == 'all':
        return hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    with path.open('rb') as file:
        content = file.read(_ENDS)
        file.seek(-min(_ENDS, size), os.SEEK_END)
        content += file.read()
    return f'{hashlib.sha256(content).hexdigest()} {size}'
