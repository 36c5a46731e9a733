"""Write pictures, label maps and videos of results."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..utils.errors import UserError
from ..utils.files import replacing


def label_files(stem: str) -> tuple[str, str]:
    """Relative paths of a label map and of its colored picture."""
    return f'labels/{stem}.png', f'colors/{stem}.png'


def panoptic_file(stem: str) -> str:
    """Relative path of the segments of an image."""
    return f'panoptic/{stem}.png'


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (H, W) or (H, W, 3), RGB, as .png or .jpg."""
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format='PNG' if path.suffix == '.png' else 'JPEG', quality=92)


def open_writer(path: Path, rate: float, size: tuple[int, int]) -> cv2.VideoWriter:
    """Open a video of frames of this (height, width) for writing; raises UserError if OpenCV cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), rate, size[::-1])
    if not writer.isOpened():
        raise UserError(f'{path}: OpenCV cannot write a video there: --no-draw skips it')
    return writer
