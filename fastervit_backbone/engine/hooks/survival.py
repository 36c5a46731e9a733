"""Hooks that keep a run from being lost: signals, losses that are not finite, images that cannot be read."""

import copy
import json
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from ...checkpoints.io import replacing
from ...utils.errors import Interrupted, UserError
from ..runner.build import INTERRUPTED, bare
from ..runner.sampling import seed_all, unreadable_of

#: Seconds in which a second signal is the first one come again: managers tell every process, and so do those that started them.
_ONE_SIGNAL = 3.0


class SaveWhenAsked(Hook):
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

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        """End here if asked."""
        if get_world_size() > 1:
            asked = torch.tensor(self.asked, device=next(runner.model.parameters()).device)
            all_reduce(asked, 'max')
            self.asked = max(self.asked, int(asked))  # one may have come meanwhile
        if self.asked and _step_is_whole(runner):
            self._end(runner, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
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
        raise Interrupted(f'{signal.Signals(self.asked).name} at iteration {meta["iter"]}: saved {path}, --resume goes on', self.asked)

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


class CountUnreadable(Hook):
    """Says which images could not be read, and ends the run when there are more than ``limit``."""

    def __init__(self, limit: int) -> None:
        self.limit, self.seen = limit, set()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None) -> None:
        """Look at the notes in the batch."""
        for path, reason in unreadable_of(samples_of(data_batch)):
            if path in self.seen:
                continue
            self.seen.add(path)
            if len(self.seen) > self.limit:
                raise UserError(
                    f'{len(self.seen)} images cannot be read, the last {path} ({reason}), and --max-unreadable is {self.limit}: '
                    'tools/check_data.py names them all'
                )
            runner.logger.warning(f'{path} cannot be read ({reason}): another image takes its place ({len(self.seen)} of {self.limit})')


def samples_of(batch: object) -> Sequence:
    """The data samples in a batch, where it has them as mmdet and mmseg do."""
    samples = batch.get('data_samples', ()) if isinstance(batch, Mapping) else ()
    return [s for s in samples if hasattr(s, 'metainfo')] if isinstance(samples, Sequence) else ()


class StopAtNonFinite(Hook):
    """A step whose loss or gradients are not finite leaves the weights alone; ``limit`` of them in a row end the run, with a report.

    Both are judged before the optimizer's step, and by all processes together: one that stopped alone would leave the others waiting.
    With gradient accumulation a step is made of several iterations, and one of them without a finite loss is enough to leave it out.
    ``non_finite.json`` in the work dir has iteration, images, losses, and the first module whose output is not finite.
    """

    priority = 'VERY_HIGH'

    def __init__(self, limit: int) -> None:
        self.limit, self.bad, self._lost, self._stepped = limit, 0, False, False
        self._bad_loss: Tensor | None = None  # of this iteration, in any process
        self._bad_sum: Tensor | None = None  # of any iteration since the last step
        self._batch: Mapping | None = None
        self._statistics: list[Tensor] = []
        self._kept: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Look at every loss before its backward pass, and at gradients before every step of the optimizer."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper):
            wrapper.optimizer.register_step_pre_hook(self._before_step)
            wrapper.update_params = partial(self._update_params, wrapper.update_params)
        self._statistics = [b for b in runner.model.buffers() if b.is_floating_point()]
        self._kept = [b.clone() for b in self._statistics]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Keep BatchNorm's statistics."""
        if self._kept:
            torch._foreach_copy_(self._kept, self._statistics)
        self._stepped, self._bad_loss = False, None
        self._batch = copy.deepcopy(data_batch) if self.bad else None  # mmseg pads labels in place

    def _update_params(self, update: Callable[..., None], loss: Tensor, **kwargs: object) -> None:
        """Note whether the loss is finite everywhere, then go on: the backward pass is a matter of all processes."""
        bad = (~torch.isfinite(loss.detach()).all()).float()
        if get_world_size() > 1:
            all_reduce(bad, 'max')
        self._bad_loss = bad
        self._bad_sum = bad if self._bad_sum is None else torch.maximum(self._bad_sum, bad)
        update(loss, **kwargs)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self._stepped = True
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        finite = torch.isfinite(torch.nn.utils.get_total_norm([p.grad for p in parameters], foreach=None))
        if self._bad_sum is not None:
            finite = finite & (self._bad_sum == 0).to(finite.device)
        if not bool(finite):
            self._lost = True
            for p in parameters:
                p.grad = None  # the optimizer passes over what has none

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None, outputs: Mapping[str, Tensor] | None = None
    ) -> None:
        """Judge the step."""
        bad_loss = self._bad_loss is not None and bool(self._bad_loss)
        if bad_loss and self._kept:  # BatchNorm's statistics, which the forward pass wrote
            torch._foreach_copy_(self._statistics, self._kept)
        if isinstance(runner.optim_wrapper, OptimWrapper) and not runner.optim_wrapper.should_update():
            return  # the step is still to come
        lost = self._bad_sum is not None and bool(self._bad_sum)
        bad, self._lost, self._bad_sum = self._lost or lost or self._hopeless(runner), False, None
        if not bad:
            self.bad = 0
            return
        losses = {k: v.detach() for k, v in (outputs or {}).items() if isinstance(v, Tensor) and 'loss' in k}
        self.bad += 1
        if self._kept:
            torch._foreach_copy_(self._statistics, self._kept)
        samples = samples_of(data_batch)
        images = [dict(id=s.metainfo.get('img_id'), path=s.metainfo.get('img_path')) for s in samples]
        names = ', '.join(str(i['id'] if i['id'] is not None else i['path']) for i in images)
        what = 'the loss' if lost else 'a gradient'
        runner.logger.warning(
            f'{what} is not finite at iteration {runner.iter + 1} (images {names}): the weights are left as they were '
            f'({self.bad} of {self.limit} in a row)'
        )
        if self.bad < self.limit:
            return
        seed_all(runner.seed, runner.iter, runner.rank)
        with runner.optim_wrapper.optim_context(runner.model):
            where = first_non_finite(bare(runner.model), data_batch if self._batch is None else self._batch)
        report = dict(
            iteration=runner.iter + 1, epoch=runner.epoch + 1, images=images, losses={k: str(float(v)) for k, v in losses.items()}
        )
        path = Path(runner.work_dir) / 'non_finite.json'
        if runner.rank == 0:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(report | dict(first=where), indent=2) + '\n')
        raise UserError(
            f'{what} was not finite in {self.limit} steps in a row, last at iteration {runner.iter + 1} (images {names}); first not '
            f'finite: {where} ({path}). Those steps changed no weights: go on with --resume and a smaller optim_wrapper.optimizer.lr, '
            'with optim_wrapper.clip_grad, or without --amp'
        )

    def _hopeless(self, runner: Runner) -> bool:
        """float16: gradients that are not finite although nothing is left to scale them down by; the scaler left the step out."""
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        return scaler is not None and scaler.is_enabled() and not self._stepped and scaler.get_scale() < 1


@torch.no_grad()
def first_non_finite(model: nn.Module, batch: Mapping) -> str:
    """Run a batch through again; what is not finite first: an input, a parameter, or a module's output, in words."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f'the parameter {name}'
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if not found and not _finite(output):
            found.append(f'the output of {name or "the model"} ({type(module).__name__})')

    handles = [module.register_forward_hook(partial(look, name)) for name, module in model.named_modules()]
    try:
        data = model.data_preprocessor(batch, True)
        if not _finite(data):
            return 'the images, as the model gets them'
        model(**data, mode='loss')
    except (ValueError, RuntimeError, AssertionError) as error:  # heads that take no such numbers
        found.append(f'{type(error).__name__} in the forward pass ({" ".join(str(error).split())[:80]})')
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else 'nothing in the forward pass: a gradient'


def _finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return all(map(_finite, values))
