"""Logs of finished predictions: a killed run resumes where it stopped, with no result lost or repeated.

Every process appends to a log of its own. Results stay in the files: memory holds a few numbers per source.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from ..utils.errors import UserError

#: One line with the settings, then one line per finished source, written after its pictures. The log of
#: process N > 0 has the suffix ``.N``.
LOG_NAME = '.journal.jsonl'
#: Locked by the process that writes into the folder, with the same suffix.
LOCK_NAME = '.journal.lock'
#: Version of the lines' content.
_VERSION = 2


class PredictionLog:
    """Results in an output folder; its own log is locked against other processes until :meth:`close`.

    Args:
        folder: output folder, created if missing.
        settings: what the results depend on; a folder with results of other settings is rejected.
        overwrite: discard the logged results.
        rank: of this process. The first one also repairs logs that were cut off while being written, so it
            opens its log before the others do.

    Attributes:
        discarded: stems of the results that ``overwrite`` discarded.

    Raises:
        UserError: the folder has results of other settings, or another process is writing into it.
    """

    def __init__(self, folder: Path, settings: dict, overwrite: bool, rank: int = 0) -> None:
        suffix = f'.{rank}' if rank else ''
        self.folder, self.path = folder, folder / f'{LOG_NAME}{suffix}'
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / f'{LOCK_NAME}{suffix}', timeout=0)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(
                f'--out {folder}: another run is writing into this folder: wait for it, or use another folder'
            ) from error
        settings = json.loads(json.dumps(settings | dict(log_version=_VERSION)))
        self.discarded: list[str] = []
        if rank == 0:
            for path in self._paths():
                _repair(path)
            if overwrite:
                self.discarded = [entry['stem'] for entry in self.entries()]
                for path in self._paths():
                    path.unlink()
        self._check_settings(settings)
        if not self.path.exists() or not self.path.stat().st_size:
            self.path.write_text(json.dumps(dict(settings=settings)) + '\n')
        self._done: set[int] = set()
        self._places: dict[str, int] = {}
        self._next_place = 0
        for entry in self.entries():
            self._done.add(_digest(entry['source']))
            self._places[entry['run']] = entry['place'] - entry['number']
            self._next_place = max(self._next_place, entry['place'] + 1)

    def _check_settings(self, settings: dict) -> None:
        for path in self._paths():
            with path.open('rb') as file:
                logged = json.loads(file.readline() or '{}').get('settings', {})
            if logged and logged != settings:
                self.close()
                changed = sorted(key for key in logged | settings if logged.get(key) != settings.get(key))
                raise UserError(
                    f'{self.folder} holds results of another {", ".join(changed)}: --overwrite replaces '
                    'them, another --out keeps them'
                )

    def __contains__(self, source: object) -> bool:
        return _digest(str(source)) in self._done

    def close(self) -> None:
        """Unlock."""
        self._lock.release()

    def add(self, run: str, number: int, entry: dict) -> None:
        """Log that ``entry['source']`` is done.

        Args:
            run: digest of the sources of this run. Their results come after those of other runs, in the order
                of the sources, whatever process predicted them and however often it was killed.
            number: of the source.
            entry: ``source``, ``stem`` of its pictures, ``images`` and ``annotations`` of COCO.
        """
        place = self._places.setdefault(run, self._next_place) + number
        with self.path.open('a') as file:
            file.write(json.dumps(dict(entry, run=run, number=number, place=place)) + '\n')
        self._done.add(_digest(entry['source']))

    def entries(self) -> Iterator[dict]:
        """Read all entries of all processes, in the order of the logs."""
        for path in self._paths():
            with path.open('rb') as file:
                file.readline()  # settings
                yield from map(json.loads, file)

    def sorted_entries(self) -> 'SortedEntries':
        """Return all entries of all processes, in the order of their sources."""
        return SortedEntries(self._paths())

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f'{LOG_NAME}*'), key=lambda path: (len(path.name), path.name))


class SortedEntries:
    """Entries of logs that are complete, read anew at each iteration: one at a time is in memory.

    Args:
        paths: the logs.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths, places = paths, array('q')
        self._files, self._offsets = array('q'), array('q')
        for number, path in enumerate(paths):
            with path.open('rb') as file:
                offset = len(file.readline())
                for line in file:
                    places.append(json.loads(line)['place'])
                    self._files.append(number)
                    self._offsets.append(offset)
                    offset += len(line)
        self._order = array('q', sorted(range(len(places)), key=lambda i: places[i]))

    def __iter__(self) -> Iterator[dict]:
        with ExitStack() as stack:
            opened = [stack.enter_context(path.open('rb')) for path in self._paths]
            for i in self._order:
                file = opened[self._files[i]]
                file.seek(self._offsets[i])
                yield json.loads(file.readline())


def _digest(source: str) -> int:
    """Shorten a path to 8 bytes: a million of them fit into memory."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(source), digest_size=8).digest(), 'big')


def _repair(path: Path) -> None:
    """Cut off a line that was being written when the run was killed."""
    end = 0
    with path.open('r+b') as file:
        for line in file:
            try:
                if not line.endswith(b'\n'):
                    break
                json.loads(line)
            except ValueError:
                break
            end += len(line)
        file.truncate(end)
