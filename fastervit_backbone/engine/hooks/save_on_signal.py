"""Save and stop on SIGTERM and Ctrl-C."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ...utils.errors import Interrupted
from ...utils.files import replacing
from ..runner.work_dir import INTERRUPTED

#: Seconds in which a second signal is the first one come again: managers tell every process, and so do those that started them.
_ONE_SIGNAL = 3.0


class SaveOnSignalHook(Hook):
    """SIGTERM or Ctrl-C: the step is finished, a checkpoint written, the run ended. A second one, seconds later, ends it at once.

    With gradient accumulation a step is made of several iterations: gradients are in no checkpoint, so that the step must be whole.

    Of several processes one that is asked suffices, and an evaluation is finished first.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.asked, self._when, self._saving = 0, 0.0, False
        self._before: dict[int, object] = {}

    def before_train(self, runner: Runner) -> None:
        """Take the two signals."""
        if runner.rank == 0:
            for part in Path(runner.work_dir).glob('.*.pth.part'):  # of a run that was killed while it saved
                part.unlink()
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets no other one take signals
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._when = number, time.monotonic()
        elif not self._saving and time.monotonic() - self._when > _ONE_SIGNAL:
            raise KeyboardInterrupt

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """End here if asked."""
        if get_world_size() > 1:
            asked = torch.tensor(self.asked, device=next(runner.model.parameters()).device)
            all_reduce(asked, 'max')
            self.asked = max(self.asked, int(asked))  # one may have come meanwhile
        if self.asked and _step_is_whole(runner):
            self._end(runner, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """End here if asked: the evaluation will be made again."""
        if self.asked and get_world_size() == 1 and _step_is_whole(runner):
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # gives the model its own weights back
                    hook.after_val_epoch(runner)
            self._end(runner, dict(epoch=runner.epoch, iter=runner.iter))

    def _end(self, runner: Runner, meta: dict) -> None:
        self._saving = True
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False)
        path = Path(runner.work_dir) / INTERRUPTED
        if runner.rank == 0:
            with replacing(path.with_name('last_checkpoint')) as temporary:
                temporary.write_text(str(path))
        barrier()  # whoever leaves first ends the others
        raise Interrupted(
            f'{signal.Signals(self.asked).name} at iteration {meta["iter"]}: saved {path}, --resume goes on',
            self.asked,
        )

    def after_train(self, runner: Runner) -> None:
        """A finished run needs no broken-off state."""
        if runner.rank == 0:
            (Path(runner.work_dir) / INTERRUPTED).unlink(missing_ok=True)

    def restore(self) -> None:
        """Put the handlers of before back."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)


def _step_is_whole(runner: Runner) -> bool:
    """Whether the optimizer has used all gradients that were accumulated."""
    return not isinstance(runner.optim_wrapper, OptimWrapper) or runner.optim_wrapper.should_update()
