"""Inputs of prediction: images, folders, patterns and videos."""

import glob
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from ..datasets.coco import read_coco
from ..datasets.image_files import IMAGES as TRAINING_IMAGES
from ..datasets.image_files import walk_files
from ..utils.errors import UserError
from ..utils.files import check_regular, is_file

IMAGES = (*TRAINING_IMAGES, '.ppm', '.pgm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')


@dataclass(frozen=True)
class Source:
    """A file to predict on.

    Args:
        path: real path, with links resolved, so that one file under two names is one source.
        name: path below the given folder, with ``/``; only the file name if given as a file or by a pattern.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the suffix is that of a video."""
        return self.path.suffix.lower() in VIDEOS


class Sources:
    """The files behind names, folders and patterns, found anew at each iteration: a million need no list.

    Arguments, order and errors are those of :func:`find_sources`.
    """

    def __init__(self, sources: Sequence[str | Path], exclude: str | Path | None = None) -> None:
        self._sources = list(map(str, sources))
        self._excluded = None if exclude is None else Path(os.path.realpath(exclude))
        for source in self._sources:
            if next(self._behind(source), None) is None:
                raise UserError(f'{source}: no images or videos ({" ".join(IMAGES + VIDEOS)}) found')

    def __iter__(self) -> Iterator[Source]:
        seen: set[int] = set()
        for source in self._sources:
            for path, name in self._behind(source):
                key = hash(path)
                if key not in seen:
                    seen.add(key)
                    yield Source(path, name)

    def _behind(self, source: str) -> Iterator[tuple[Path, str]]:
        for path, name in _files(source):
            path = Path(os.path.realpath(path))
            if self._excluded is None or not path.is_relative_to(self._excluded):
                yield path, name


def find_sources(sources: Sequence[str | Path], exclude: str | Path | None = None) -> list[Source]:
    """Find the images and videos behind file names, folders and patterns (``*``, ``?``, ``**``).

    Folders are searched recursively, without hidden files: first their own files, then their subfolders, each
    sorted by name. Each file is returned once.

    Args:
        sources: files, folders and patterns.
        exclude: folder to ignore, such as that of the results.

    Raises:
        UserError: a file does not exist, or a folder or pattern has no images or videos.
    """
    return list(Sources(sources, exclude))


def find_images(folder: str | Path) -> list[Source]:
    """Find the images of a folder, without videos; empty where there are only videos.

    Raises:
        UserError: see :func:`find_sources`.
    """
    return [source for source in find_sources([folder]) if not source.is_video]


def spread(sources: Sequence[Source], most: int) -> list[Source]:
    """Return at most so many of some sources, spread over all."""
    return list(sources[:: max(1, len(sources) // most)][:most])


def choose_sources(
    sources: Sequence[str | Path], annotations: str | Path | None, exclude: str | Path | None = None
) -> tuple[Iterable[Source], dict[str, int] | None]:
    """Find the files to predict on, and the ids of a json's images.

    Args:
        sources: files, folders and patterns; with ``annotations``, the folder of its images, or nothing (the
            json's own folder).
        annotations: COCO json: only its images, with its ids; None: everything in ``sources``.
        exclude: folder to ignore, as in :func:`find_sources`.

    Returns:
        the files, and real path -> id of the json's images; None without a json.

    Raises:
        UserError: as :func:`find_sources`; the json cannot be read, or its images do not exist.
    """
    if annotations is None:
        if not sources:
            raise UserError('no input: name images, folders or videos, or a json with --annotations')
        return Sources(sources, exclude), None
    annotations = Path(annotations)
    if not annotations.is_file():
        raise UserError(f'--annotations {annotations}: no such file')
    folder = Path(sources[0]) if sources else annotations.parent
    if len(sources) > 1 or not folder.is_dir():
        raise UserError(
            f'--annotations {annotations}: SOURCE must be the folder of its images, but is '
            + ' '.join(map(str, sources))
        )
    images = read_coco(annotations)['images']
    for image in images:
        if not _is_image_entry(image):
            raise UserError(
                f'--annotations {annotations}: {str(image)[:60]} has no integer id, or no file_name'
            )
    missing = [image['file_name'] for image in images if not is_file(folder / image['file_name'])]
    if missing:
        raise UserError(
            f'--annotations {annotations}: {missing[0]} is not in {folder} '
            f'({len(missing)} of {len(images)} images are missing)'
        )
    found = [
        Source(Path(os.path.realpath(folder / image['file_name'])), _result_name(image['file_name']))
        for image in images
    ]
    ids = {str(source.path): image['id'] for source, image in zip(found, images, strict=True)}
    if len(ids) < len(found):
        duplicate = Counter(str(source.path) for source in found).most_common(1)[0][0]
        raise UserError(
            f'--annotations {annotations}: {len(found) - len(ids)} images are listed twice, such as '
            f'{duplicate}: fastervit check-data --fix repairs this'
        )
    return found, ids


def _is_image_entry(image: object) -> bool:
    return (
        isinstance(image, dict)
        and isinstance(image.get('file_name'), str)
        and isinstance(image.get('id'), int)
    )


def _result_name(file_name: str) -> str:
    """Convert a json's file name to a relative path; of one that leaves the folder only the last part."""
    path = PurePosixPath(file_name)
    return path.name if path.is_absolute() or '..' in path.parts else path.as_posix()


def _files(source: str) -> Iterator[tuple[Path, str]]:
    """Yield the path and name of every file behind ``source``."""
    path = Path(source)
    if path.is_dir():
        for file in walk_files(path, IMAGES + VIDEOS):
            yield file, file.relative_to(path).as_posix()
    elif path.is_file():
        yield path, path.name  # given as a file: any suffix
    elif glob.has_magic(source):
        for match in sorted(glob.iglob(source, recursive=True)):
            if match.lower().endswith(IMAGES + VIDEOS):
                yield Path(match), Path(match).name
    else:
        check_regular(path)
        raise UserError(f'{source} does not exist: name an image, a folder, a pattern in quotes or a video')


def video_size(path: str | Path) -> tuple[float, int]:
    """Return the frames per second and the number of frames, as the file states it (0 if it does not).

    Raises:
        UserError: OpenCV cannot read the file as a video.
    """
    check_regular(path)
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise UserError(f'{path} cannot be read as a video: convert it, for example to mp4')
        return capture.get(cv2.CAP_PROP_FPS) or 25.0, max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def read_video(path: str | Path) -> Generator[np.ndarray, None, None]:
    """Yield the frames of a video, (H, W, 3), uint8, BGR.

    Raises:
        UserError: after the last readable frame, if that is well before the end.
    """
    capture = cv2.VideoCapture(str(path))
    expected, count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    try:
        while True:
            success, frame = capture.read()
            if not success:
                break
            count += 1
            yield frame
    finally:
        capture.release()
    if count < max(1, 0.95 * expected - 2):  # files state the number only roughly
        raise UserError(
            f'{path}: only {count} of {max(expected, 0)} frames can be read: copy or convert it again'
        )
