"""Mean and standard deviation of the channels of images, by which a model normalizes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .image_files import map_in_threads
from .multichannel import read_channels

#: More images than this are sampled evenly.
SAMPLE = 500


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel, in the numbers of the files.

    Args:
        mean: of each channel.
        std: of each; 1 for a channel that is the same everywhere.
        images: how many were read.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: int


def channel_statistics(paths: Sequence[Path], count: int) -> ChannelStatistics:
    """Read images, at most :data:`SAMPLE` of them, and measure their channels; each pixel counts the same.

    Args:
        paths: of the training images.
        count: their channels.

    Raises:
        UserError: an image cannot be read, or has other channels.
    """
    chosen = [
        paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int))
    ]
    pixels, mean, squares = 0, np.zeros(count), np.zeros(count)  # squares of the deviations from the mean
    for size, of_image, spread in map_in_threads(lambda path: _moments(path, count), chosen):
        # the sums of two groups, without the differences of large squares (Chan et al., 1979)
        total, shift = pixels + size, of_image - mean
        mean += shift * size / total
        squares += spread + shift**2 * pixels * size / total
        pixels = total
    std = np.sqrt(squares / pixels)
    is_constant = std <= 1e-6 * np.maximum(1e-30, np.abs(mean))
    std[is_constant] = 1.0
    return ChannelStatistics(_rounded(mean), _rounded(std), len(chosen))


def _moments(path: Path, count: int) -> tuple[int, np.ndarray, np.ndarray]:
    pixels = read_channels(path, count).reshape(-1, count).astype(np.float64)
    mean = pixels.mean(0)
    return len(pixels), mean, ((pixels - mean) ** 2).sum(0)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f'{value:.6g}') for value in values)
