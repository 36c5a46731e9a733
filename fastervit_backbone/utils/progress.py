"""Progress bars of long loops."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar('T')
#: Seconds between two lines, at least.
_INTERVAL = 10.0


def progress_bar(items: Iterable[T], total: int | None, description: str) -> Iterator[T]:
    """Yield ``items``, with a bar on stderr; where that is no terminal, a line every tenth of a long loop.

    Args:
        items: what the loop iterates over.
        total: number of items; None where it is unknown.
        description: label in front of the bar.
    """
    if total == 0 or not sys.stderr.isatty():
        yield from _with_lines(items, total or 0, description)
        return
    from rich.console import Console  # only needed on a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn('{task.description}', markup=False),  # file names may hold square brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as progress:
        yield from progress.track(items, total=total, description=description)


def duration(seconds: float) -> str:
    """Format seconds as ``2 h 5 min``, ``3 min`` or ``12 s``."""
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min' if minutes else f'{seconds:.0f} s'


def _with_lines(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    start = shown_at = time.monotonic()
    shown = 0
    for done, item in enumerate(items):
        tenth, now = done * 10 // total if total else 0, time.monotonic()
        if tenth > shown and now - shown_at >= _INTERVAL:
            left = duration((now - start) / done * (total - done))
            print(f'{description}: {done} of {total} ({done * 100 // total}%), {left} left', file=sys.stderr)
            shown, shown_at = tenth, now
        yield item
