"""Writing files: whether that is possible, and whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


def check_folder_writable(option: str, folder: str | Path) -> None:
    """Raise UserError unless ``folder`` is, or can become, a folder that this process may write."""
    place = Path(os.path.abspath(folder))
    while not place.exists():
        if place.is_symlink():
            raise UserError(f'{option} {folder}: {place} is a link to what is not there')
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(
            f'{option} {folder}: cannot write to {place}' + ('' if place.is_dir() else ', which is a file')
        )


def check_file_writable(option: str, path: str | Path) -> None:
    """Raise UserError unless ``path`` is, or can become, a file that this process may write."""
    if Path(path).is_dir():
        raise UserError(f'{option} {path} is a folder: name a file, in it or elsewhere')
    check_folder_writable(option, Path(path).parent)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when it does not.

    Raises:
        UserError: the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name[-40:]}.{os.getpid()}')  # not longer than names may be
        temporary.touch()
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror}') from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        temporary.unlink(missing_ok=True)
