"""Draw panoptic predictions: each segment in a shade of its class, with a line around it and its name."""

from collections.abc import Sequence

import cv2
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


def blend_segments(scene: np.ndarray, panoptic: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Lay the segments (H, W) over a picture (H', W', 3), uint8, BGR, with a white line around each."""
    size = scene.shape[1::-1]
    enlarged = cv2.resize(panoptic.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
    colors = colorize_segments(enlarged, names)[..., ::-1]
    is_segment = enlarged >= 0
    scene = np.where(is_segment[..., None], (0.45 * scene + 0.55 * colors).astype(np.uint8), scene)
    edge = np.zeros(enlarged.shape, bool)
    edge[:, 1:] |= enlarged[:, 1:] != enlarged[:, :-1]
    edge[1:] |= enlarged[1:] != enlarged[:-1]
    scene[edge] = 255
    return scene
