"""Files: reading of JSON, checks before writing, and atomic replacement."""

import errno
import gc
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError

#: Free space below which a disk counts as full, bytes.
_LITTLE = 2**16


def check_regular(path: str | Path) -> None:
    """Raise UserError for a pipe, socket or device, which may never end; a missing file is no error."""
    mode = stat.S_IFREG
    with suppress(OSError, ValueError):  # whoever opens it says why it cannot be opened
        mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = 'a folder' if stat.S_ISDIR(mode) else 'a pipe, socket or device'
        raise UserError(f'{path} is {kind}: name a file')


def is_file(path: Path) -> bool:
    """Return whether this is a regular file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """Read a text in UTF-8, with or without a byte order mark.

    Raises:
        UserError: it cannot be read, or is no such text.
    """
    check_regular(path)
    try:
        return path.read_text(encoding='utf-8-sig')
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror or error}') from error
    except ValueError as error:
        raise UserError(f'{path} is not a text file in UTF-8 ({error}): save it as one') from error


class _Floats(dict):
    """Text of a short number -> float: coordinates repeat, and COCO's 60 million take half the memory so."""

    def __missing__(self, text: str) -> float:
        """Return a number, and keep a short one."""
        value = float(text)
        if len(text) < 8:
            self[text] = value
        return value


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON in UTF-8, with or without a byte order mark (Windows editors begin a file with one).

    Raises:
        UserError: the file cannot be read, or is no JSON; the message ends with ``remedy``.
    """
    check_regular(path)
    collecting = gc.isenabled()
    gc.disable()  # nothing of what is read is garbage: looking for some takes half as long as reading
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'), parse_float=_Floats().__getitem__)
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror or error}') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is broken JSON ({error}): {remedy}') from error
    finally:
        if collecting:
            gc.enable()


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


def full_disk_behind(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk or quota that an exception is, or was caused by; None without one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def reporting_full_disk(folder: Path) -> Iterator[None]:
    """Turn what libraries make of a full disk into one line.

    Raises:
        UserError: the disk of ``folder`` is full.
    """
    try:
        yield
    except Exception as error:
        cause = full_disk_behind(error)
        # C++ writers tell no reason
        if cause is None and shutil.disk_usage(folder if folder.is_dir() else '.').free >= _LITTLE:
            if isinstance(error, OSError) and str(error.filename or '').startswith(str(folder)):
                raise UserError(f'cannot write to {folder}: {error.strerror or error}') from error
            raise
        reason = cause.strerror if cause is not None else 'the disk is full'
        raise UserError(f'cannot write to {folder}: {reason}: make space and run the same again') from error


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
