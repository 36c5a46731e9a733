"""Resize, crop and paste arrays as torch and the toolkits do, without torch."""

from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image

_FILTERS = dict(bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)


_CV2_FILTERS = dict(bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC)


def resize_image(pixels: np.ndarray, size: tuple[int, int], interpolation: str = 'bilinear') -> np.ndarray:
    """Resize (H, W, channels) to (height, width) with OpenCV, which drops the axis of a single channel."""
    pixels = np.ascontiguousarray(pixels)
    resized = cv2.resize(pixels, (size[1], size[0]), interpolation=_CV2_FILTERS[interpolation])
    return resized.reshape(*size, -1)


def paste_mask(mask: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Paste the probabilities of a mask (S, S) within its box into an image, as mmdet does.

    Sampling is bilinear with zeros outside the box's cells, at the centers of the pixels; the rows and the
    columns of it are two matrices.

    Returns:
        (H, W), bool: at least 0.5.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    result = np.zeros(size, bool)
    top, bottom = max(int(np.floor(y1)) - 1, 0), min(int(np.ceil(y2)) + 1, size[0])
    left, right = max(int(np.floor(x1)) - 1, 0), min(int(np.ceil(x2)) + 1, size[1])
    if x2 <= x1 or y2 <= y1 or bottom <= top or right <= left:
        return result
    rows = _linear_weights(np.arange(top, bottom), y1, y2, mask.shape[0])
    columns = _linear_weights(np.arange(left, right), x1, x2, mask.shape[1])
    result[top:bottom, left:right] = rows @ mask.astype(np.float32) @ columns.T >= 0.5
    return result


def _linear_weights(pixels: np.ndarray, start: float, end: float, cells: int) -> np.ndarray:
    """Weights (pixels, cells) of linear interpolation between the cells' centers, zero outside."""
    at = (pixels + 0.5 - start) / (end - start) * cells - 0.5
    return np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, None).astype(np.float32)


def label_map_of(
    logits: np.ndarray,
    canvas: tuple[int, ...],
    inner: tuple[int, int],
    size: tuple[int, int],
    align_corners: bool,
) -> np.ndarray:
    """Resize logits (C, h, w) to the canvas, crop the image, resize to its size and choose, as mmseg does.

    Returns:
        (H, W), class indices.
    """
    full = resize_channels(logits.astype(np.float32), (canvas[0], canvas[1]), align_corners)
    full = full[:, : inner[0], : inner[1]]
    return resize_channels(full, size, align_corners).argmax(0)


def resize_channels(channels: np.ndarray, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """Resize (C, h, w) bilinearly without smoothing, as torch's ``interpolate`` does; float32."""
    height, width = size
    if channels.shape[1:] == size:
        return channels
    if not align_corners:
        return np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_LINEAR) for c in channels])
    rows, columns = (
        _linear_weights(np.linspace(0, n - 1, m) if m > 1 else np.zeros(1), 0, n, n)
        for n, m in zip(channels.shape[1:], size, strict=True)
    )
    return rows @ channels @ columns.T


def for_classifier(pixels: np.ndarray, steps: Mapping) -> np.ndarray:
    """Resize with Pillow or OpenCV, then crop the center of (H, W, channels)."""
    height, width = pixels.shape[:2]
    if steps['resize'] == 'edge':
        edge = steps['edge']
        new = (edge, int(edge * width / height)) if height < width else (int(edge * height / width), edge)
    else:
        new = tuple(steps['scale'])
    if steps.get('backend', 'pillow') == 'cv2':
        image = resize_image(pixels, (new[0], new[1]), steps['interpolation'])
    else:
        whole = Image.fromarray(np.ascontiguousarray(pixels))
        image = np.asarray(whole.resize((new[1], new[0]), _FILTERS[steps['interpolation']]))
    crop = steps['crop'] or new
    top, left = (max(0, round((side - part) / 2)) for side, part in zip(new, crop, strict=True))
    return image[top : top + crop[0], left : left + crop[1]]
