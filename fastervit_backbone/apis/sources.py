"""What a person names to predict on: images, folders, patterns, videos."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import ImageOps

from ..datasets.coco import read_coco
from ..datasets.images import IMAGES as TRAINED_ON
from ..datasets.images import open_image
from ..utils.errors import UserError

IMAGES = (*TRAINED_ON, '.ppm', '.pgm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')


@dataclass(frozen=True)
class Source:
    """A file to predict on.

    Args:
        path: where it really is, links followed: the same file by two names is one.
        name: its path below the folder that was named, with ``/``; of a file named by itself or by a pattern its own name.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """By its suffix."""
        return self.path.suffix.lower() in VIDEOS


def find_sources(sources: Sequence[str | Path], leave_out: str | Path | None = None) -> list[Source]:
    """The files behind names, folders (searched through, hidden files left out) and patterns (``*``, ``?``, ``**``), each once, sorted.

    Args:
        sources: what a person named.
        leave_out: a folder whose files are none: the results themselves.

    Raises:
        UserError: a name that is not there, a pattern or folder that gives nothing.
    """
    found: dict[Path, str] = {}
    results = None if leave_out is None else Path(os.path.realpath(leave_out))
    for source in map(str, sources):
        files = [(Path(os.path.realpath(path)), name) for path, name in sorted(_files(source))]
        files = [(path, name) for path, name in files if results is None or not path.is_relative_to(results)]
        if not files:
            raise UserError(f'{source}: no image or video there, of {" ".join(IMAGES + VIDEOS)}')
        for path, name in files:
            found.setdefault(path, name)
    return [Source(path, name) for path, name in found.items()]


def choose_sources(
    sources: Sequence[str | Path], annotations: str | Path | None, leave_out: str | Path | None = None
) -> tuple[list[Source], dict[str, int] | None]:
    """What to predict on, and the ids of a json's images.

    Args:
        sources: what a person named; with ``annotations`` the folder of its images, or nothing: the json's own folder.
        annotations: a COCO json: its images alone, with its ids; None: everything in ``sources``.
        leave_out: as of :func:`find_sources`.

    Returns:
        the files, and real path -> id of the json's images; None without a json.

    Raises:
        UserError: as :func:`find_sources`; a json that cannot be read, or with images that are not there.
    """
    if annotations is None:
        if not sources:
            raise UserError(
                'nothing to predict on: name images, folders or videos, or a json with --annotations'
            )
        return find_sources(sources, leave_out), None
    annotations = Path(annotations)
    if not annotations.is_file():
        raise UserError(f'--annotations {annotations}: there is no such file')
    folder = Path(sources[0]) if sources else annotations.parent
    if len(sources) > 1 or not folder.is_dir():
        raise UserError(
            f'--annotations {annotations}: name the folder of its images beside it, not {" ".join(map(str, sources))}'
        )
    listed = read_coco(annotations)['images']
    bad = [
        i
        for i in listed
        if not (isinstance(i, dict) and isinstance(i.get('file_name'), str) and isinstance(i.get('id'), int))
    ]
    if bad:
        raise UserError(
            f'--annotations {annotations}: {str(bad[0])[:60]} has no whole number as id, or no file_name'
        )
    absent = [i['file_name'] for i in listed if not (folder / i['file_name']).is_file()]
    if absent:
        raise UserError(
            f'--annotations {annotations}: {absent[0]} is not in {folder} ({len(absent)} of {len(listed)} images are not)'
        )
    found = [
        Source(Path(os.path.realpath(folder / i['file_name'])), _name_below(i['file_name'])) for i in listed
    ]
    ids = {str(source.path): i['id'] for source, i in zip(found, listed, strict=True)}
    if len(ids) < len(found):
        twice = Counter(str(source.path) for source in found).most_common(1)[0][0]
        raise UserError(
            f'--annotations {annotations}: {len(found) - len(ids)} images are listed twice, {twice} is one: tools/check_data.py --fix'
        )
    return found, ids


def _name_below(file_name: str) -> str:
    """A json's file name as the path of results: one that leads out of the folder is cut to its last part."""
    path = PurePosixPath(file_name)
    return path.name if path.is_absolute() or '..' in path.parts else path.as_posix()


def _files(source: str) -> Iterator[tuple[Path, str]]:
    """(path, name) of each."""
    path = Path(source)
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(f for f in folders if not f.startswith('.'))
            files = [
                Path(folder, n)
                for n in names
                if n.lower().endswith(IMAGES + VIDEOS) and not n.startswith('.')
            ]
            yield from ((file, file.relative_to(path).as_posix()) for file in files)
    elif path.is_file():
        yield path, path.name  # named by itself: whatever its suffix
    elif glob.has_magic(source):
        files = (Path(p) for p in glob.iglob(source, recursive=True) if p.lower().endswith(IMAGES + VIDEOS))
        yield from ((file, file.name) for file in files)
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
            pixels = np.ascontiguousarray(
                np.asarray(ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1]
            )
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
        UserError: after the last one that can be read, where that is not near the end.
    """
    capture = cv2.VideoCapture(str(path))
    whole, count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    try:
        while True:
            there, frame = capture.read()
            if not there:
                break
            count += 1
            yield frame
    finally:
        capture.release()
    if count < max(1, 0.95 * whole - 2):  # files say it roughly
        raise UserError(f'{path}: {count} of {max(whole, 0)} frames can be read: copy or convert it again')
