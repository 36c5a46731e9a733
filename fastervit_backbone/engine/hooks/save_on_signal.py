"""Save a checkpoint and stop on SIGTERM and Ctrl-C."""

import faulthandler
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from ...utils.errors import Interrupted
from ...utils.files import replacing
from ..runner.loops import step_is_complete
from ..runner.work_dir import INTERRUPTED

#: Seconds within which a second signal counts as the first: job manager and parent process both send it.
_SAME_SIGNAL = 3.0


class SaveOnSignalHook(Hook):
    """On SIGTERM or Ctrl-C, finish the step, write a checkpoint and stop; a second one ends the run at once.

    A step with gradient accumulation takes several iterations and is completed first. With several processes,
    one that gets the signal suffices, and an evaluation is finished.

    In another thread than the main one, as in Ray Train's workers, Python installs no handlers. There SIGTERM
    is noted by faulthandler's, and sent again after the checkpoint for whoever handles it in the process.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signal, self._received_at, self._saving = 0, 0.0, False
        self._previous_handlers: dict[int, object] = {}
        self._note: IO[bytes] | None = None  # where faulthandler writes when SIGTERM arrives

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers; delete partial checkpoints of a run that was killed while saving."""
        if runner.rank == 0:
            for part in Path(runner.work_dir).glob('.*.pth.part'):
                part.unlink()
        if threading.current_thread() is not threading.main_thread():
            if hasattr(faulthandler, 'register'):  # not on Windows
                self._note = tempfile.TemporaryFile()
                faulthandler.register(signal.SIGTERM, self._note, all_threads=False)
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous_handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._signal:
            self._signal, self._received_at = number, time.monotonic()
        elif not self._saving and time.monotonic() - self._received_at > _SAME_SIGNAL:
            raise KeyboardInterrupt

    def _received(self) -> int:
        """Return the signal that arrived; 0 for none."""
        if self._note is not None and not self._signal and os.fstat(self._note.fileno()).st_size:
            self._signal = signal.SIGTERM
        return self._signal

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Stop after this step if any process received a signal."""
        received = self._received()
        if get_world_size() > 1:
            agreed = torch.tensor(received, device=next(runner.model.parameters()).device)
            all_reduce(agreed, 'max')
            # Not self._signal: one that arrives from here on is known to this process only, and the others
            # would wait for it in their next step.
            received = int(agreed)
        if received and step_is_complete(runner):
            self._stop(runner, received, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Stop within an evaluation, which the resumed run will repeat."""
        received = self._received()
        if received and get_world_size() == 1 and step_is_complete(runner):
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # swaps the model's own weights back in
                    hook.after_val_epoch(runner)
            self._stop(runner, received, dict(epoch=runner.epoch, iter=runner.iter))

    def _stop(self, runner: Runner, received: int, meta: dict) -> None:
        self._saving = True
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
        path = Path(runner.work_dir) / INTERRUPTED
        if runner.rank == 0:
            with replacing(path.with_name('last_checkpoint')) as temporary:
                temporary.write_text(str(path))
        barrier()  # the first process that exits ends the others
        raise Interrupted(
            f'{signal.Signals(received).name} at iteration {meta["iter"]}: saved {path}, use --resume to '
            'continue',
            received,
        )

    def after_train(self, runner: Runner) -> None:
        """Delete the checkpoint of an earlier interruption."""
        if runner.rank == 0:
            (Path(runner.work_dir) / INTERRUPTED).unlink(missing_ok=True)

    def restore(self) -> None:
        """Restore the previous signal handlers."""
        while self._previous_handlers:
            number, handler = self._previous_handlers.popitem()
            signal.signal(number, handler)
        if self._note is not None:
            received = self._received()
            faulthandler.unregister(signal.SIGTERM)
            self._note.close()
            self._note = None
            if received:
                os.kill(os.getpid(), signal.SIGTERM)
