"""What has been predicted so far, on disk: a killed run goes on where it stopped, without a lost or a doubled result."""

import json
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows: nothing is locked there
    fcntl = None

from ..utils.errors import UserError

#: One line of settings, then one for every source that is done, written after its pictures.
NAME = '.journal.jsonl'


class PredictionLog:
    """Results of a folder, which no other process may write into until :meth:`close`.

    Args:
        folder: made if need be.
        settings: what the results depend on; a folder with results of other settings is refused.
        overwrite: forget what is there.

    Attributes:
        done: path of a source -> its entry: ``images`` and ``annotations`` of COCO, ``stem`` of its pictures.
        forgotten: stems of what ``overwrite`` forgot.

    Raises:
        UserError: other settings, or another process writes into the folder.
    """

    def __init__(self, folder: Path, settings: dict, overwrite: bool) -> None:
        self.path = folder / NAME
        self.done: dict[str, dict] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = self.path.open('a')
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f'--out {folder}: another run is writing there: wait for it, or name another folder'
                ) from error
        settings = json.loads(json.dumps(settings))
        lines = self._read()
        self.forgotten = [entry['stem'] for entry in lines[1:]] if overwrite else []
        lines = [] if overwrite else lines
        if lines and lines[0] != dict(settings=settings):
            before = lines[0].get('settings', {})
            differ = sorted(k for k in before | settings if before.get(k) != settings.get(k))
            raise UserError(
                f'{folder} holds results of another {", ".join(differ)}: --overwrite replaces them, another --out keeps them'
            )
        for entry in lines[1:]:
            self.done[entry['source']] = entry
        if not lines:
            self.path.write_text(json.dumps(dict(settings=settings)) + '\n')

    def close(self) -> None:
        """Let another process write into the folder."""
        self._lock.close()

    def add(self, entry: dict) -> None:
        """Note that ``entry['source']`` is done."""
        with self.path.open('a') as file:
            file.write(json.dumps(entry) + '\n')
        self.done[entry['source']] = entry

    def _read(self) -> list[dict]:
        """The whole lines; what was being written when the run was killed is cut off."""
        content = self.path.read_bytes()
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
