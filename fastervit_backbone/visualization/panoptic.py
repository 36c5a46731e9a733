"""Colors and lines of panoptic predictions: each segment in a shade of its class."""

from collections.abc import Sequence

import numpy as np

from ..structures.prediction import INSTANCE_OFFSET
from .palette import palette


def colorize_segments(panoptic: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(H, W) class + 1000 * number, negative without a segment -> (H, W, 3), uint8, RGB; those are black."""
    colors = palette(names).astype(float)
    picture = np.zeros((*panoptic.shape, 3), np.uint8)
    for value in np.unique(panoptic[panoptic >= 0]):
        number = value // INSTANCE_OFFSET
        shade = 1.0 if number == 0 else (1.0, 0.8, 1.15, 0.65)[(number - 1) % 4]
        picture[panoptic == value] = np.clip(colors[value % INSTANCE_OFFSET] * shade, 0, 255)
    return picture


def edges_of(panoptic: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W), bool: the first pixel of another segment, from the left or from above."""
    edge = np.zeros(panoptic.shape, bool)
    edge[:, 1:] |= panoptic[:, 1:] != panoptic[:, :-1]
    edge[1:] |= panoptic[1:] != panoptic[:-1]
    return edge
