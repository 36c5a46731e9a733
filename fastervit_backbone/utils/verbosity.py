"""Whether the whole log of the toolkits is shown on the screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_VERBOSE = ContextVar('verbose', default=False)


@contextmanager
def verbosely(verbose: bool = True) -> Iterator[None]:
    """Show all that mmengine logs on the screen, too (``--verbose``); it always is in the log file."""
    token = _VERBOSE.set(verbose)
    try:
        yield
    finally:
        _VERBOSE.reset(token)


def is_verbose() -> bool:
    """Whether the code runs within :func:`verbosely`."""
    return _VERBOSE.get()
