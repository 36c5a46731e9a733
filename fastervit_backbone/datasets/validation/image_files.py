"""Open image files and report what they turned out to be."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from ...utils.errors import UserError
from ...utils.files import is_file
from ...utils.progress import progress_bar
from ..image_files import ARRAYS, map_in_threads
from ..image_headers import is_deep, open_image, unsupported
from ..images import bits_of
from ..multichannel import (
    Channels,
    ChannelsError,
    channels_of,
    colors_of,
    may_have_others,
    read_channels,
)
from ..pixel_format import PixelFormat
from ..rules import IMAGE_RULES, Violation

#: How much of image files is read: everything, what gives the size, or only whether they exist.
Read: TypeAlias = Literal['all', 'size', 'exists']
#: Bytes at both ends of a file of which ``size`` makes a digest.
_ENDS = 2**13


@dataclass(frozen=True)
class ImageFile:
    """What an image file turned out to be.

    Args:
        problem: '', 'image-missing', 'image-unreadable' or 'image-unsupported'.
        found: its channels and numbers.
        size: (width, height) as training sees it, or None.
        digest: hash of its content, or None.
        channels: '', or what channels and numbers it has that are not read as colors.
        orientation: of EXIF.
        bits: that its pixels use of 16; None for an image of 8.
        reason: why it is not supported.
    """

    problem: str = ''
    found: Channels | None = None
    size: tuple[int, int] | None = None
    digest: str | None = None
    channels: str = ''
    orientation: int = 1
    bits: int | None = None
    reason: str = ''

    def rules(self) -> list[str]:
        """Return the ids of the rules of :data:`..rules.IMAGE_RULES` that the file breaks."""
        dark = 'image-dark' if self.bits is not None and self.bits < 16 else ''
        return [rule for rule in (self.problem, self.channels and 'image-channels', dark) if rule]

    def example(self, rule: str, name: str) -> str:
        """Say of the file ``name`` how it breaks a rule."""
        told = {
            'image-unsupported': self.reason,
            'image-dark': f'{self.bits} of 16 bits',
            'image-channels': self.channels,
        }
        more = told.get(rule)
        return f'{name}: {more}' if more else name


@dataclass
class PixelKinds:
    """What channels, numbers and bits the images of one or several splits have.

    Attributes:
        bits: that pixels of 16-bit images use, the most of all; 0: there are none.
        first: (channels, numbers, whether it is read as colors) -> the first such image.
        counts: likewise, how many.
        transparent: how many have a channel that is taken for transparency.
    """

    bits: int = 0
    first: dict[tuple[int, str, bool], str] = field(default_factory=dict)
    counts: Counter[tuple[int, str, bool]] = field(default_factory=Counter)
    transparent: int = 0

    def add(self, file: ImageFile, name: str) -> None:
        """Count an image."""
        self.bits = max(self.bits, file.bits or 0)
        if file.found is not None and not file.problem:
            kind = (file.found.count, file.found.dtype, file.found.colors)
            self.first.setdefault(kind, name)
            self.counts[kind] += 1
            self.transparent += file.found.transparency

    @classmethod
    def together(cls, kinds: Iterable['PixelKinds']) -> 'PixelKinds':
        """Count the images of several splits."""
        result = cls()
        for one in kinds:
            result.bits = max(result.bits, one.bits)
            result.first = one.first | result.first
            result.counts += one.counts
            result.transparent += one.transparent
        return result

    def violations(self, *, all_channels: bool = False) -> Iterator[Violation]:
        """Find images that cannot be read alike; ``all_channels``: colors are read as channels, too."""
        groups: dict[str, list[tuple[int, str, bool]]] = {}
        for kind in self.counts:
            count, dtype, colors = kind
            name = 'colors' if colors and not all_channels else str(Channels((0, 0), count, dtype, colors))
            groups.setdefault(name, []).append(kind)
        if len(groups) > 1:
            told = (
                f'{sum(self.counts[k] for k in kinds)} of {name}, the first is {self.first[kinds[0]]}'
                for name, kinds in groups.items()
            )
            yield Violation(IMAGE_RULES['image-channels-differ'], '; '.join(told))


def look(path: Path, read: Read = 'all', pixels: PixelFormat | None = None) -> ImageFile:
    """Open an image file.

    Args:
        path: of the file.
        read: how much of it.
        pixels: how a config reads it; None: colors or channels, as the file says.
    """
    if not is_file(path):
        return ImageFile('image-missing')
    if read == 'exists':
        return ImageFile()
    digest = _digest(path, read)
    try:
        found = channels_of(path) if may_have_others(path) else None
        if found is not None and pixels is None and not found.colors:
            if read == 'all' and not found.problem:
                read_channels(path)
            problem = 'image-unsupported' if found.problem else ''
            told, turn = str(found), found.orientation
            return ImageFile(problem, found, found.size, digest, told, turn, reason=found.problem)
        if pixels is not None and not pixels.is_color:
            return _look_at_channels(found or channels_of(path), pixels, digest)
        return _look_at_colors(path, read, found, digest)
    except ChannelsError as error:
        reason = str(error).removeprefix(str(path)).removeprefix(' is not read,').lstrip(': ')
        return ImageFile('image-unsupported', digest=digest, reason=reason)
    except UserError:
        return ImageFile('image-unreadable', digest=digest)


def _look_at_channels(found: Channels, pixels: PixelFormat, digest: str) -> ImageFile:
    """Compare a file with what a config reads of it."""
    reason = found.problem
    if not reason and found.count != pixels.channels:
        reason = f'it has {found}, and the config says channels={pixels.channels}'
    elif not reason and pixels.dtype not in (None, found.dtype):
        reason = f'it has {found}, and the config says dtype={pixels.dtype}'
    problem = 'image-unsupported' if reason else ''
    return ImageFile(problem, found, found.size, digest, '', found.orientation, reason=reason)


def _look_at_colors(path: Path, read: Read, found: Channels | None, digest: str) -> ImageFile:
    """Open a file that is read as colors; UserError if it is damaged. ``found``: of arrays and TIFF."""
    if found is not None and not found.colors and (path.suffix.lower() == ARRAYS or found.count > 4):
        reason = found.problem or f'it has {found}, for LoadImageFromFile(channels={found.count})'
        return ImageFile('image-unsupported', found, found.size, digest, reason=reason)
    with open_image(path) as image:
        reason, deep = unsupported(image), is_deep(image)
        found = found or colors_of(image)
        if read == 'all':
            image.load()
    bits = bits_of(path) if deep and not reason else None
    problem, channels = 'image-unsupported' if reason else '', '' if found.colors else str(found)
    return ImageFile(problem, found, found.size, digest, channels, found.orientation, bits, reason)


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
