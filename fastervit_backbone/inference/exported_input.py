"""From an image to what an exported file takes, as the json beside it says."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..utils.errors import UserError
from .exported_arrays import for_classifier, resize_image


def prepare(pixels: np.ndarray, info: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """Resize and pad an image to what a file takes.

    Args:
        pixels: as ``read_image`` returns them.
        info: content of the json beside the file.

    Returns:
        (H', W', channels), colors in RGB, and the (height, width) that the image has in it, at the top left.

    Raises:
        UserError: an image of which nothing remains.
    """
    steps, (height, width), count = info['preprocess'], pixels.shape[:2], pixels.shape[2]
    pixels = pixels if 'channels' in steps else pixels[..., ::-1]
    fixed = None if info['size'] is None else (info['size'][0], info['size'][1])
    if info['task'] == 'classification':
        return for_classifier(pixels, steps), (0, 0)
    if steps['resize'] == 'stretch':
        inner = fixed or (steps['scale'][1], steps['scale'][0])
        resized, inner = _to_multiple(resize_image(pixels, inner), inner, fixed, steps)
        return np.ascontiguousarray(resized), inner
    inner = _fitted(height, width, fixed, info)
    if inner != (height, width):
        pixels = resize_image(pixels, inner)
    pixels, inner = _to_multiple(pixels, inner, fixed, steps)
    canvas = np.ascontiguousarray(pixels)
    if fixed is not None and inner != fixed:
        full = np.empty((*fixed, count), pixels.dtype)
        full[:] = steps['pad_value']
        full[: inner[0], : inner[1]] = canvas
        canvas = full
    return canvas, inner


def _fitted(
    height: int, width: int, fixed: tuple[int, int] | None, info: Mapping[str, Any]
) -> tuple[int, int]:
    """Return the size that an image is resized to, keeping its proportions."""
    steps = info['preprocess']
    if fixed is not None:
        scale = min(fixed[0] / height, fixed[1] / width)
    else:  # mmcv's meaning of a scale: limits of the longer and of the shorter side
        long, short = max(steps['scale']), min(steps['scale'])
        scale = min(long / max(height, width), short / min(height, width))
        if steps['resize'] == 'none':
            scale = 1.0
    inner = (int(height * scale + 0.5), int(width * scale + 0.5))
    least = 1 if fixed is not None else info['bounds'][0]
    if min(inner) < least:
        raise UserError(
            f'an image of {width}x{height} pixels is too narrow: '
            f'after preprocessing, a side has less than {least} pixels'
        )
    if fixed is None and max(inner) > info['bounds'][1]:
        raise UserError(f'an image of {width}x{height} pixels: at most {info["bounds"][1]} per side')
    return inner


def _to_multiple(
    pixels: np.ndarray, size: tuple[int, int], fixed: tuple[int, int] | None, steps: Mapping[str, Any]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Stretch an image to multiples of a number where there is room, as mmseg's ResizeToMultiple."""
    divisor = steps.get('multiple', 1)
    new = (-(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor)
    if new == size or (fixed is not None and (new[0] > fixed[0] or new[1] > fixed[1])):
        return pixels, size
    return resize_image(pixels, new), new
