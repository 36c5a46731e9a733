"""Whether checkpoints may run code; needs no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TRUSTED = ContextVar('trusted', default=False)


@contextmanager
def trusting_pickles(trusted: bool = True) -> Iterator[None]:
    """Allow checkpoints to run code: for files of your own that hold more than data (``--trust-pickle``)."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def pickles_are_trusted() -> bool:
    """Whether the code runs within :func:`trusting_pickles`."""
    return _TRUSTED.get()
