"""The colors of classes, in pictures, label maps, charts and configs."""

import colorsys
from collections.abc import Sequence

import numpy as np

#: The palette of Okabe and Ito (Color Universal Design, 2008) without black: safe for color-blind readers.
OKABE_ITO = dict(
    orange='#E69F00',
    sky_blue='#56B4E9',
    green='#009E73',
    yellow='#F0E442',
    blue='#0072B2',
    vermilion='#D55E00',
    purple='#CC79A7',
)
#: For thin lines on white: the same with a darker yellow.
LINE_COLORS = tuple((OKABE_ITO | dict(yellow='#B8A800')).values())
_BACKGROUND = (110, 110, 110)


def palette(names: Sequence[str]) -> np.ndarray:
    """Choose the colors of the classes in pictures.

    Args:
        names: class names; "background" is gray, the others get the seven base colors, then darker and
            lighter shades of them.

    Returns:
        (number of names, 3), uint8, RGB.
    """
    base = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in OKABE_ITO.values()], float)
    shades = np.concatenate(
        (base, base * 0.55, base + (255 - base) * 0.6, base * 0.78, base + (255 - base) * 0.35)
    )
    colors, used = [], 0
    for name in names:
        is_background = name.lower() == 'background'
        colors.append(_BACKGROUND if is_background else shades[used % len(shades)])
        used += not is_background
    return np.array(colors).round().astype(np.uint8)


def colorize_label_map(label_map: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(H, W) class indices -> (H, W, 3), uint8, RGB; ignored pixels are black."""
    colors = np.concatenate([palette(names), np.zeros((1, 3), np.uint8)])
    return colors[np.minimum(label_map, len(names))]


def distinct_colors(count: int) -> list[list[int]]:
    """Choose colors for any number of classes, as the ``palette`` of a config's ``metainfo``.

    Hues are a golden section apart, so that neighbors in the list differ most, in three brightnesses.

    Returns:
        RGB, 0..255, of each class.
    """
    colors = []
    for i in range(count):
        hue, saturation, value = i * 0.618034 % 1, 0.55 + 0.4 * (i % 2), (1, 0.8, 0.55)[i // 8 % 3]
        colors.append([round(255 * v) for v in colorsys.hsv_to_rgb(hue, saturation, value)])
    return colors
