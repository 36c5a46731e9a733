"""Checkpoints in a run's work dir."""

from pathlib import Path

from ...checkpoints.io import resolve_checkpoint
from ...utils.errors import UserError

#: The checkpoint of a run that was asked to stop.
INTERRUPTED = 'interrupted.pth'


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """List the checkpoints that a run can be resumed from, best first.

    The one recorded as last comes before the others, which are sorted from new to old. The work dir may have
    been moved.
    """
    work_dir = Path(work_dir)
    found = [p for pattern in ('epoch_*.pth', 'iter_*.pth', INTERRUPTED) for p in work_dir.glob(pattern)]
    found.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    record = work_dir / 'last_checkpoint'
    text = record.read_text().strip() if record.is_file() else ''
    if text:  # it is empty if the run was killed while writing it
        last = Path(text) if Path(text).is_file() else work_dir / Path(text).name
        found.sort(key=lambda p: p.name != last.name)
        if last.is_file() and last not in found:  # it has another name, or is elsewhere
            found.insert(0, last)
    return found


def find_checkpoint(checkpoint: str | Path) -> Path:
    """Return the file of a path, a URL, or a work dir (its last checkpoint).

    Raises:
        UserError: a folder without a checkpoint, the file does not exist, or the download failed.
    """
    path = Path(checkpoint)
    if path.is_dir():
        checkpoints = checkpoints_of(path)
        if not checkpoints:
            raise UserError(f'{path} is a folder without a checkpoint: train first, or name a file')
        path = checkpoints[0]
    return resolve_checkpoint(path if path.exists() else str(checkpoint))
