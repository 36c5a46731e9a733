"""Log of finished predictions: a killed run resumes where it stopped, with no result lost or repeated."""

import json
from pathlib import Path

from filelock import FileLock, Timeout

from ..utils.errors import UserError

#: One line with the settings, then one line per finished source, written after its pictures.
LOG_NAME = '.journal.jsonl'
#: Locked by the process that writes into the folder.
LOCK_NAME = '.journal.lock'


class PredictionLog:
    """Results in an output folder, locked against other processes until :meth:`close`.

    Args:
        folder: output folder, created if missing.
        settings: what the results depend on; a folder with results of other settings is rejected.
        overwrite: discard the logged results.

    Attributes:
        done: path of a source -> its entry: ``images`` and ``annotations`` of COCO, ``stem`` of its pictures.
        discarded: stems of the results that ``overwrite`` discarded.

    Raises:
        UserError: the folder has results of other settings, or another process is writing into it.
    """

    def __init__(self, folder: Path, settings: dict, overwrite: bool) -> None:
        self.path = folder / LOG_NAME
        self.done: dict[str, dict] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK_NAME, timeout=0)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(
                f'--out {folder}: another run is writing into this folder: wait for it, or use another folder'
            ) from error
        settings = json.loads(json.dumps(settings))
        lines = self._read()
        self.discarded = [entry['stem'] for entry in lines[1:]] if overwrite else []
        if overwrite or not lines:
            lines = []
            self.path.write_text(json.dumps(dict(settings=settings)) + '\n')
        elif lines[0] != dict(settings=settings):
            logged = lines[0].get('settings', {})
            self.close()
            changed = sorted(key for key in logged | settings if logged.get(key) != settings.get(key))
            raise UserError(
                f'{folder} holds results of another {", ".join(changed)}: --overwrite replaces them, '
                'another --out keeps them'
            )
        self.done = {entry['source']: entry for entry in lines[1:]}

    def close(self) -> None:
        """Unlock the folder."""
        self._lock.release()

    def add(self, entry: dict) -> None:
        """Log that ``entry['source']`` is done."""
        with self.path.open('a') as file:
            file.write(json.dumps(entry) + '\n')
        self.done[entry['source']] = entry

    def _read(self) -> list[dict]:
        """Read the complete lines; cut off a line that was being written when the run was killed."""
        content = self.path.read_bytes() if self.path.exists() else b''
        lines, end = [], 0
        for line in content.splitlines(keepends=True):
            try:
                if not line.endswith(b'\n'):
                    break
                lines.append(json.loads(line))
            except ValueError:
                break
            end += len(line)
        if end < len(content):
            with self.path.open('r+b') as file:
                file.truncate(end)
        return lines
