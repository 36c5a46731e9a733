"""Checkpoints in a run's folder."""

from pathlib import Path

from ...checkpoints.io import fetch
from ...utils.errors import UserError

#: The checkpoint of a run that was asked to stop.
INTERRUPTED = 'interrupted.pth'


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """Checkpoints that a run can go on from, the one noted as last before others, then the newest first; wherever the folder has moved."""
    work_dir = Path(work_dir)
    found = [p for pattern in ('epoch_*.pth', 'iter_*.pth', INTERRUPTED) for p in work_dir.glob(pattern)]
    found.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    note = work_dir / 'last_checkpoint'
    noted = (
        Path(note.read_text().strip()) if note.is_file() else Path()
    )  # empty where the run was killed while writing it
    if noted.name:
        noted = noted if noted.is_file() else work_dir / noted.name
        found.sort(key=lambda p: p.name != noted.name)
        if noted.is_file() and noted not in found:  # of another name or place
            found.insert(0, noted)
    return found


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The file behind a path, a URL, or a work dir (its last checkpoint).

    Raises:
        UserError: a folder without a checkpoint, no such file, or it cannot be downloaded.
    """
    path = Path(checkpoint)
    if path.is_dir():
        found = checkpoints_of(path)
        if not found:
            raise UserError(f'{path} is a folder without a checkpoint: train first, or name a file')
        path = found[0]
    return fetch(path if path.exists() else str(checkpoint))
