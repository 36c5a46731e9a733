"""Writing files: checks beforehand, and atomic replacement."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


def check_folder_writable(option: str, folder: str | Path) -> None:
    """Raise UserError unless ``folder`` is, or can become, a folder that this process may write."""
    existing = Path(os.path.abspath(folder))
    while not existing.exists():
        if existing.is_symlink():
            raise UserError(f'{option} {folder}: {existing} is a broken link')
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f'{option} {folder}: cannot write to {existing}, which is a file')
    if not os.access(existing, os.W_OK):
        raise UserError(f'{option} {folder}: cannot write to {existing}')


def check_file_writable(option: str, path: str | Path) -> None:
    """Raise UserError unless ``path`` is, or can become, a file that this process may write."""
    if Path(path).is_dir():
        raise UserError(f'{option} {path} is a folder: name a file, in it or elsewhere')
    check_folder_writable(option, Path(path).parent)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block succeeds and is deleted otherwise.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name[-40:]}.{os.getpid()}')  # cut: names have a maximum length
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error


def digest_of(path: Path) -> str:
    """Return a digest of a file's beginning, end and size, which differs for other weights.

    torch files end with the checksums of all their parts, safetensors files begin with all shapes.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        content = file.read(2**20)
        file.seek(-min(2**20, size), os.SEEK_END)
        content += file.read()
    return f'{hashlib.sha256(content).hexdigest()[:16]} {size}'
