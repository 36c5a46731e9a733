"""How image files are read: as colors, or as all the channels that they have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

#: Bits of a channel that the pixels of a color image may use.
BITS = (8, 10, 12, 14, 16)
#: Kinds of numbers; floats of any length are one.
DTYPES = ('bool', 'uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'int64', 'float')
#: More channels, or pages, than this are another kind of data: a stack, or rows taken for pages.
MOST_CHANNELS = 64


@dataclass(frozen=True)
class PixelFormat:
    """What ``LoadImageFromFile`` of a config says of image files.

    Args:
        bits: of colors: that 16-bit files use, one of :data:`BITS`; None: all 16.
        channels: how many channels files have, all of which are read; None: colors.
        dtype: what numbers files must have: 'uint8', 'uint16', ..., 'float'; None: any.
        rgb: which of the channels pictures show as red, green and blue, counted from 0; None: the first.

    Raises:
        ValueError: other values, or options of colors and of channels together.
    """

    bits: int | None = None
    channels: int | None = None
    rgb: tuple[int, ...] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits not in BITS:
            raise ValueError(f'bits={self.bits!r}: choose one of {", ".join(map(str, BITS))}')
        if self.channels is None:
            for name in ('rgb', 'dtype'):
                if getattr(self, name) is not None:
                    raise ValueError(f'{name}={getattr(self, name)!r}: only with channels=N')
            return
        if self.dtype is not None and (not isinstance(self.dtype, str) or self.dtype not in DTYPES):
            raise ValueError(f'dtype={self.dtype!r}: choose one of {", ".join(DTYPES)}')
        if type(self.channels) is not int or not 1 <= self.channels <= MOST_CHANNELS:
            raise ValueError(f'channels={self.channels!r}: must be between 1 and {MOST_CHANNELS}')
        if self.bits is not None:
            raise ValueError(f'bits={self.bits}: only of colors, without channels={self.channels}')
        if self.rgb is not None:
            last = self.channels - 1
            if isinstance(self.rgb, list | tuple):
                object.__setattr__(self, 'rgb', tuple(self.rgb))
            if (
                not isinstance(self.rgb, tuple)
                or len(self.rgb) != 3
                or not all(type(i) is int and 0 <= i <= last for i in self.rgb)
            ):
                raise ValueError(f'rgb={self.rgb!r}: must be three channels, each from 0 to {last}')

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> 'PixelFormat':
        """Return the format that a step ``LoadImageFromFile``, or the json of an exported file, describes."""
        return cls(*(options.get(name) for name in ('bits', 'channels', 'rgb', 'dtype')))

    def options(self) -> dict[str, Any]:
        """Return what :meth:`of` reads, without what is None."""
        rgb = None if self.rgb is None else list(self.rgb)
        found = dict(bits=self.bits, channels=self.channels, rgb=rgb, dtype=self.dtype)
        return {key: value for key, value in found.items() if value is not None}

    @property
    def is_color(self) -> bool:
        """Whether pixels are (H, W, 3), uint8, BGR; otherwise (H, W, channels), float32, as in the file."""
        return self.channels is None

    def picture(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels in this format to look at: (H, W, 3), uint8, BGR."""
        return pixels if self.is_color else picture_of(pixels, self.rgb)


#: 8-bit colors, and the upper 8 bits of 16.
COLOR = PixelFormat()


def picture_of(pixels: np.ndarray, rgb: tuple[int, ...] | None = None) -> np.ndarray:
    """Return a picture of the channels of an image, each from its 1st to its 99th percentile.

    Args:
        pixels: (H, W, N), any numbers.
        rgb: channels shown as red, green and blue; None: the first three; of one, gray; of two, the second is
            cyan.

    Returns:
        (H, W, 3), uint8, BGR.
    """
    last = pixels.shape[2] - 1
    shown = [min(i, last) for i in (0, 1, 2)] if rgb is None else list(rgb)
    chosen = pixels[..., shown].astype(np.float32)
    low, high = np.percentile(chosen, (1, 99), axis=(0, 1)).astype(np.float32)
    stretched = (chosen - low) / np.maximum(high - low, np.finfo(np.float32).tiny) * 255
    return np.ascontiguousarray(np.clip(stretched, 0, 255).round().astype(np.uint8)[..., ::-1])


def resize_pixels(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Reduce pixels (H, W, N) to ``size`` (height, width) by the mean of areas; N stays an axis."""
    height, width = size
    parts = [
        cv2.resize(pixels[..., i : i + 4], (width, height), interpolation=cv2.INTER_AREA).reshape(
            height, width, -1
        )
        for i in range(0, pixels.shape[2], 4)  # OpenCV's areas have at most four channels
    ]
    return np.concatenate(parts, 2) if len(parts) > 1 else parts[0]
