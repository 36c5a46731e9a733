"""Processes that load data, and signals."""

import atexit
import multiprocessing
import os
import signal
from collections.abc import Mapping

#: Set when the main process ends: its workers may then.
_LEAVING = multiprocessing.Value('b', 0)


def ignore_signals(worker_id: int) -> None:
    """For a dataloader's ``worker_init_fn``: a signal to the whole group, as schedulers and Ctrl-C send it, is the main process's matter.

    Its workers are needed until the iteration is finished, and end with it.
    """
    if multiprocessing.get_start_method() == 'fork':  # else the flag is another one
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if _LEAVING.value else None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def release_workers() -> None:
    """Let the workers end when they are told to; also at the end of this process."""
    _LEAVING.value = 1


atexit.register(release_workers)


def with_signal_proof_workers(loader: Mapping) -> dict:
    """A dataloader's config whose workers :func:`ignore_signals`, unless it starts them in a way of its own."""
    _LEAVING.value = 0
    own = {'worker_init_fn', 'disable_subprocess_warning'} & loader.keys()
    return dict(loader) if own else dict(loader, worker_init_fn=dict(type=ignore_signals))
