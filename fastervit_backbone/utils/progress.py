"""Progress bars of long loops."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar('T')


def progress_bar(items: Iterable[T], total: int | None, description: str) -> Iterator[T]:
    """Yield ``items``, with a bar on stderr if that is a terminal.

    Args:
        items: what the loop iterates over.
        total: number of items; None where it is unknown.
        description: label in front of the bar.
    """
    if total == 0 or not sys.stderr.isatty():
        yield from items
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
