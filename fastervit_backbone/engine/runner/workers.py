"""Data loading workers that survive signals to the run, and end with it."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping

from mmengine.runner import Runner

#: Set when the main process ends; its workers may end then.
_MAIN_ENDS = multiprocessing.Value('b', 0)


def start_worker(worker_id: int) -> None:
    """Ignore SIGTERM and SIGINT in a worker, and end with the main process; for ``worker_init_fn``.

    Schedulers and Ctrl-C signal the whole process group, but only the main process acts: it needs its workers
    until the iteration is finished, and ends them itself.
    """
    if multiprocessing.get_start_method() == 'fork':  # otherwise the flag is not shared
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if _MAIN_ENDS.value else None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process a second after its parent, which may have been killed.

    torch's own check does not run while a worker writes to a queue that nobody reads any more. The worker
    would keep the sockets that it inherited, and other processes of the run would wait for the dead one.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def release_workers() -> None:
    """Let the workers end on SIGTERM; also called at the exit of this process."""
    _MAIN_ENDS.value = 1


atexit.register(release_workers)


def end_workers(runner: Runner) -> None:
    """End the loading workers that a run keeps between epochs.

    Left to the garbage collector, each of them is waited for five seconds, in the middle of whatever this
    process does next: it closes the queue that would tell them before they are told.
    """
    release_workers()
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        loader = getattr(loop, 'dataloader', None)
        iterator = getattr(loader, '_iterator', None)
        if hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()
            loader._iterator = None


def with_signal_proof_workers(loader: Mapping) -> dict:
    """Let the workers of a dataloader's config run :func:`start_worker`, unless they have their own start."""
    _MAIN_ENDS.value = 0
    has_own = {'worker_init_fn', 'disable_subprocess_warning'} & loader.keys()
    return dict(loader) if has_own else dict(loader, worker_init_fn=dict(type=start_worker))
