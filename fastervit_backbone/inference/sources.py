"""What a person names to predict on: images, folders, patterns, videos."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageOps

from ..data.images import open_image
from ..errors import UserError

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')


@dataclass(frozen=True)
class Source:
    """A file to predict on.

    Args:
        path: where it is.
        name: its path below the folder that holds all sources, with ``/``.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """By its suffix."""
        return self.path.suffix.lower() in VIDEOS


def find_sources(sources: Sequence[str | Path]) -> list[Source]:
    """The files behind names, folders (searched through, hidden files left out) and patterns (``*``, ``?``, ``**``), each once, sorted.

    Raises:
        UserError: a name that is not there, a pattern or folder that gives nothing.
    """
    paths: dict[Path, None] = {}
    for source in map(str, sources):
        found = sorted(_files(source))
        if not found:
            raise UserError(f'{source}: no image or video there, of {" ".join(IMAGES + VIDEOS)}')
        paths |= dict.fromkeys(Path(os.path.abspath(path)) for path in found)
    above = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    return [Source(path, path.relative_to(above).as_posix()) for path in paths]


def _files(source: str) -> Iterator[Path]:
    path = Path(source)
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(f for f in folders if not f.startswith('.'))
            yield from (Path(folder, n) for n in names if n.lower().endswith(IMAGES + VIDEOS) and not n.startswith('.'))
    elif path.is_file():
        yield path  # named by itself: whatever its suffix
    elif glob.has_magic(source):
        yield from (Path(p) for p in glob.iglob(source, recursive=True) if p.lower().endswith(IMAGES + VIDEOS))
    else:
        raise UserError(f'{source} is not there: name an image, a folder, a pattern in quotes or a video')


def read_image(path: str | Path) -> np.ndarray:
    """Pixels (H, W, 3), uint8, BGR: the values that mmcv reads in training and evaluation, turned as EXIF says; alpha is left out.

    Raises:
        UserError: no image, or a damaged one (OpenCV alone would fill what is missing with grey).
    """
    with open_image(path) as image:
        image.load()
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:  # a format of Pillow's
            pixels = np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1])
    return pixels


def video_size(path: str | Path) -> tuple[float, int]:
    """Frames a second, and their number as the file says (0 where it does not).

    Raises:
        UserError: no video that OpenCV reads.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise UserError(f'{path} cannot be read as a video: convert it, to mp4 say')
        return capture.get(cv2.CAP_PROP_FPS) or 25.0, max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def read_video(path: str | Path) -> Iterator[np.ndarray]:
    """The frames of a video, (H, W, 3), uint8, BGR.

    Raises:
        UserError: not a single frame can be read.
    """
    capture = cv2.VideoCapture(str(path))
    count = 0
    try:
        while True:
            there, frame = capture.read()
            if not there:
                break
            count += 1
            yield frame
    finally:
        capture.release()
    if not count:
        raise UserError(f'{path}: no frame can be read: convert it, to mp4 say')
