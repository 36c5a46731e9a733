"""Text in pictures, in any script: OpenCV writes ASCII, Pillow everything else."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

#: Height of a line of Pillow's text, pixels, at OpenCV's text scale 1.
_HEIGHT = 30


@cache
def font(height: int) -> ImageFont.FreeTypeFont:
    """Return a font for all scripts; ``height``: of a line, pixels."""
    return ImageFont.truetype(_path(), height)


def _path() -> str:
    return str(files(__package__.rpartition('.')[0]) / 'fonts' / 'unifont.otf')


def label_annotator(
    texts: Sequence[str], color: sv.Color | sv.ColorPalette, text_scale: float, **options: object
) -> sv.LabelAnnotator | sv.RichLabelAnnotator:
    """Return supervision's annotator that can write these texts.

    Args:
        texts: the labels.
        color: behind them.
        text_scale: OpenCV's.
        options: of both annotators.
    """
    if all(map(str.isascii, texts)):
        thickness = max(1, round(2 * text_scale))
        return sv.LabelAnnotator(color=color, text_scale=text_scale, text_thickness=thickness, **options)
    size = max(10, round(_HEIGHT * text_scale))
    return sv.RichLabelAnnotator(color=color, font_path=_path(), font_size=size, **options)


def write(
    scene: np.ndarray, text: str, corner: tuple[int, int], height: int, background: tuple[int, int, int]
) -> np.ndarray:
    """Write a line of white text on a background, at its upper left corner (x, y).

    Args:
        scene: (H, W, 3), uint8, BGR; not changed.
        text: in any script.
        corner: (x, y), pixels.
        height: of the line, pixels.
        background: BGR.

    Returns:
        (H, W, 3), uint8, BGR.
    """
    picture = Image.fromarray(np.ascontiguousarray(scene[..., ::-1]))
    pen, (x, y), pad = ImageDraw.Draw(picture), corner, height // 5
    left, top, right, bottom = pen.textbbox((x + pad, y + pad), text, font=font(height))
    pen.rectangle((left - pad, top - pad, right + pad, bottom + pad), fill=background[::-1])
    pen.text((x + pad, y + pad), text, fill='white', font=font(height))
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])
