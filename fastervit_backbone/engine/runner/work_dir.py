"""Checkpoints in a run's work dir."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath

from filelock import FileLock, Timeout
from mmengine.dist import get_rank

from ...checkpoints.io import resolve_checkpoint
from ...checkpoints.model_folder import is_published, resolve_published
from ...utils.errors import UserError
from ...utils.files import check_folder_writable
from ...utils.log import log
from ..processes import from_first_process

#: The checkpoint of a run that was asked to stop.
INTERRUPTED = 'interrupted.pth'
#: Locked by the run that writes into the work dir.
LOCK_NAME = '.run.lock'


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """List the checkpoints that a run can be resumed from, best first.

    The one recorded as last comes before the others, which are sorted from new to old. mmengine records a
    whole path, which in a copied or moved work dir is another run's file: the folder's own file of that name
    comes first.
    """
    work_dir = Path(work_dir)
    patterns = ('epoch_*.pth', 'iter_*.pth', INTERRUPTED)
    found = [p for pattern in patterns for p in work_dir.glob(pattern) if p.is_file()]
    found.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    record = work_dir / 'last_checkpoint'
    text = record.read_text(encoding='utf-8', errors='replace').strip() if record.is_file() else ''
    if (
        text and len(text) < 4096 and len(PureWindowsPath(text).name) < 256 and '\0' not in text
    ):  # it is empty if the run was killed while writing it
        name = PureWindowsPath(text).name  # of either system's paths
        last = next((p for p in (work_dir / name, Path(text)) if p.is_file()), work_dir / name)
        found.sort(key=lambda p: p.name != last.name)
        if last.is_file() and last not in found:  # it has another name, or is elsewhere
            found.insert(0, last)
    return found


def find_checkpoint(checkpoint: str | Path) -> Path:
    """Return the file of a path, a URL, a published folder, or a work dir (its last checkpoint).

    Raises:
        UserError: a folder without a checkpoint, the file does not exist, or the download failed.
    """
    path = Path(checkpoint)
    if is_published(checkpoint):
        path = resolve_published(checkpoint)[1]
    elif path.is_dir():
        checkpoints = checkpoints_of(path)
        if not checkpoints:
            raise UserError(f'{path} is a folder without a checkpoint: train first, or name a file')
        path = checkpoints[0]
        log(f'{checkpoint}: using its checkpoint {path.name}')
    return resolve_checkpoint(path if path.exists() else str(checkpoint))


@contextmanager
def locked(work_dir: str | Path) -> Iterator[None]:
    """Keep other runs out of a work dir; the system frees it when the process ends, however it ends.

    Raises:
        UserError: another run is writing into it.
    """
    folder = Path(work_dir)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK_NAME, timeout=0)

    def acquire() -> None:
        check_folder_writable('--work-dir', work_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise UserError(
                f'--work-dir {work_dir}: another run is writing into this folder: wait for it, or use another'
            ) from error
        except (OSError, NotImplementedError) as error:  # a file system without locks
            log(f'{work_dir} cannot be locked ({error}): start no second run in it')

    from_first_process(acquire)
    try:
        yield
    finally:
        lock.release()
        if get_rank() == 0:
            _remove_empty(new)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, that hold nothing but a lock: nothing came of the run."""
    with suppress(OSError):
        for folder in folders:
            if {path.name for path in folder.iterdir()} == {LOCK_NAME}:
                (folder / LOCK_NAME).unlink()
            folder.rmdir()
