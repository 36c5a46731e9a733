"""Reading ahead of and writing behind a model that computes, in a thread each."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar('T')


def read_ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield items, of which a thread makes the next one meanwhile."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        pending: Future[Any] = pool.submit(next, iterator, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, iterator, end)
            yield item


class WriteBehind:
    """A thread that runs calls in order; leaving the block waits for all of them.

    An error of a call is raised by a later :meth:`submit` or at the end of the block.

    Args:
        most: calls that wait, at most: a further one waits for the first, so that memory stays flat.
    """

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._pool = ThreadPoolExecutor(1)
        self._pending: deque[Future[object]] = deque()

    def submit(self, call: Callable[..., object], *arguments: object) -> None:
        """Run ``call(*arguments)`` after those before."""
        while len(self._pending) >= self._most:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(call, *arguments))

    def __enter__(self) -> 'WriteBehind':
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            while self._pending:
                self._pending.popleft().result()
        except Exception:
            if kind is None:  # else that error is what the user hears of
                raise
        finally:
            self._pool.shutdown()
