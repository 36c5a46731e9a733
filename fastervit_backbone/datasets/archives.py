"""Download published archives with resume and checksum, and unpack them file by file.

Existing files are never overwritten.
"""

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..utils.errors import UserError

_CHUNK = 1 << 20
#: Images do not shrink in archives; annotations do, by about ten times.
_MAX_RATIO = 50


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        url: its last part is the file's name.
        checksum: ``sha256:...`` or ``md5:...``, or '' where no published one is known (a zip checks itself
            while it is unpacked).
        strip: number of leading folders to remove from its members.
        fills: prefix of the folders that it fills; '' is all of them.
    """

    url: str
    checksum: str = ''
    strip: int = 0
    fills: str = ''

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.url.rsplit('/', 1)[1]


def fetch_archive(archive: Archive, folder: Path) -> Path:
    """Download into ``folder``, resuming an earlier call, and verify the checksum.

    Raises:
        UserError: no network, no disk space, or the checksum differs (the file is kept as ``.part``).
    """
    path, part = folder / archive.name, folder / f'{archive.name}.part'
    if path.is_file():
        _verify(archive, path)
        return path
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(archive.url, headers={'Range': f'bytes={done}-'} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.status != 206:  # the server does not resume
                done = 0
            whole = done + int(answer.headers.get('Content-Length') or 0)
            _require_room(folder, whole - done, archive.name)
            folder.mkdir(parents=True, exist_ok=True)
            with part.open('ab' if done else 'wb') as file, _progress() as progress:
                bar = progress.add_task(archive.name, total=whole, completed=done)
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    progress.advance(bar, len(chunk))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is already complete
            raise UserError(
                f'{archive.url} answered {error.code} {error.reason}: download it by hand and give its path'
            ) from error
        whole = part.stat().st_size
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f'download of {archive.url} failed ({error}): run the same command again to resume, or '
            'download it by hand and give its path'
        ) from error
    if part.stat().st_size < whole:
        raise UserError(
            f'{archive.url} ended at {part.stat().st_size} of {whole} bytes: run the same command again to '
            'resume'
        )
    _verify(archive, part)
    part.rename(path)
    return path


def unpack(path: Path, root: Path, strip: int = 0) -> int:
    """Write the files of a zip or tar that do not exist yet; each appears whole or not at all.

    Args:
        path: the archive.
        root: target folder.
        strip: number of leading folders to remove from the members.

    Returns:
        the number of files written.

    Raises:
        UserError: not an archive, damaged, a member that points outside, or no disk space.
    """
    written, total, most = 0, 0, _MAX_RATIO * path.stat().st_size + 10**8
    try:
        with _progress() as progress:
            bar = progress.add_task(path.name, total=path.stat().st_size)
            for name, size, packed, file in _members(path):
                total += size
                if total > most:
                    raise UserError(
                        f'{path} would grow {_MAX_RATIO} times: this is not the published archive'
                    )
                parts = PurePosixPath(name).parts[strip:]
                if not parts:
                    continue
                if '..' in parts or PurePosixPath(name).is_absolute():
                    raise UserError(
                        f'{path} has a member {name!r} outside the target folder: this is not the published '
                        'archive'
                    )
                written += _write(root.joinpath(*parts), root, size, file, path)
                progress.advance(bar, packed)
    # zipfile raises a RuntimeError for a password and for an unknown compression
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        OSError,
        RuntimeError,
    ) as error:
        raise UserError(
            f'{path} cannot be unpacked ({type(error).__name__}: {error}): move it away and download it again'
        ) from error
    return written


def _write(target: Path, root: Path, size: int, content: IO[bytes], archive: Path) -> bool:
    """Write a member unless it exists already; return whether it was written."""
    if target.is_file() and target.stat().st_size == size:
        return False
    if os.path.lexists(target):
        raise UserError(
            f'{target} exists with another size than in {archive.name}: move it away and run the same again'
        )
    linked = next((p for p in target.parents if p != root and root in p.parents and p.is_symlink()), None)
    if linked is not None:
        raise UserError(
            f'{linked} is a link to {linked.resolve()}, and nothing is written through links: remove the '
            f'link or leave {archive} out'
        )
    _require_room(root, size, target.name)
    partial = target.with_name(target.name + '.part')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        out = partial.open('wb')
    except OSError as error:
        raise UserError(f'cannot write {target} ({error.strerror}): set another --root') from error
    with out:
        shutil.copyfileobj(content, out, _CHUNK)
    partial.rename(target)
    return True


def _members(path: Path) -> Iterator[tuple[str, int, int, IO[bytes]]]:
    """Yield (name, size, packed size, content) of every file in an archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as file:
                        yield info.filename, info.file_size, info.compress_size, file
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, member.size, member.size, archive.extractfile(member)
    else:
        raise UserError(f'{path} is neither a zip nor a tar: move it away and download it again')


def _verify(archive: Archive, path: Path) -> None:
    kind, _, expected = archive.checksum.partition(':')
    if not expected:
        return
    digest = hashlib.new(kind)
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if (found := digest.hexdigest()) != expected:
        raise UserError(
            f'{path} has {kind} {found}, expected {expected}: it is damaged or changed; move it away '
            'and download it again'
        )


def _require_room(folder: Path, size: int, name: str) -> None:
    place = Path(os.path.abspath(folder))
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(
            f'{name} needs {size / 1e9:.1f} GB in {place}, which has {free / 1e9:.1f} GB free: free some or '
            'set another --root'
        )


def _progress() -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )
