"""Skip optimizer steps whose loss or gradients are not finite."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from ...utils.errors import UserError
from ...utils.files import replacing
from ..runner.build import unwrap_model
from ..runner.loops import step_is_complete
from ..runner.sampling import seed_all
from .unreadable_images import samples_of


class NonFiniteGuardHook(Hook):
    """Skip steps whose loss or gradients are not finite; ``limit`` in a row end the run with a report.

    Both are checked before the optimizer's step, and by all processes together: if only one stopped, the
    others would wait for it. With gradient accumulation, one iteration without a finite loss skips the whole
    step. The report, ``non_finite.json`` in the work dir, has the iteration, the images, the losses, and the
    first module whose output is not finite.

    Args:
        limit: skipped steps in a row that end the run, at least 1.
    """

    priority = 'VERY_HIGH'

    def __init__(self, limit: int) -> None:
        self.limit, self.skipped = limit, 0
        self._gradients_dropped = self._optimizer_called = False
        # whether the loss was bad: here, in any process, and in any iteration since the last step
        self._own_loss_bad: Tensor | None = None
        self._loss_bad: Tensor | None = None
        self._step_loss_bad: Tensor | None = None
        self._batch: Mapping | None = None
        self._statistics: list[Tensor] = []
        self._saved_statistics: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Check every loss before its backward pass, and the gradients before every step of the optimizer."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper):
            wrapper.optimizer.register_step_pre_hook(self._before_step)
            wrapper.update_params = partial(self._update_params, wrapper.update_params)
        self._statistics = [b for b in runner.model.buffers() if b.is_floating_point()]
        self._saved_statistics = [b.clone() for b in self._statistics]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Save BatchNorm's statistics."""
        if self._statistics:
            torch._foreach_copy_(self._saved_statistics, self._statistics)
        self._optimizer_called, self._loss_bad = False, None
        self._batch = copy.deepcopy(data_batch) if self.skipped else None  # mmseg pads labels in place

    def _update_params(self, update: Callable[..., None], loss: Tensor, **kwargs: object) -> None:
        """Note whether the loss is finite in all processes, which all continue with the backward pass."""
        bad = (~torch.isfinite(loss.detach()).all()).float()
        self._own_loss_bad = bad.clone()
        if get_world_size() > 1:
            all_reduce(bad, 'max')
        self._loss_bad = bad
        self._step_loss_bad = bad if self._step_loss_bad is None else torch.maximum(self._step_loss_bad, bad)
        update(loss, **kwargs)

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self._optimizer_called = True
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        finite = torch.isfinite(torch.nn.utils.get_total_norm([p.grad for p in parameters], foreach=None))
        if self._step_loss_bad is not None:
            finite = finite & (self._step_loss_bad == 0).to(finite.device)
        if get_world_size() > 1:  # sharded gradients differ between processes
            bad = (~finite).float()
            all_reduce(bad, 'max')
            finite = bad == 0
        if not bool(finite):
            self._gradients_dropped = True
            for p in parameters:
                p.grad = None  # the optimizer ignores parameters without gradients

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Mapping | None = None,
        outputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Count and report a skipped step, and end the run after too many."""
        if _is_set(self._loss_bad):
            self._restore_statistics()
        if not step_is_complete(runner):
            return
        loss_bad = _is_set(self._step_loss_bad)
        skipped = self._gradients_dropped or loss_bad or self._scaler_gave_up(runner)
        self._gradients_dropped, self._step_loss_bad = False, None
        if not skipped:
            self.skipped = 0
            return
        self.skipped += 1
        self._restore_statistics()
        records = all_gather_object(self._record(data_batch, outputs))
        subject = 'the loss' if loss_bad else 'a gradient'
        names = ', '.join(
            str(image['path'] if image['id'] is None else image['id'])
            for record in _culprits(records)
            for image in record['images']
        )
        runner.logger.warning(
            f'{subject} is not finite at iteration {runner.iter + 1} (images {names}): step skipped, weights '
            f'unchanged ({self.skipped} of {self.limit} in a row)'
        )
        if self.skipped < self.limit:
            return
        location = self._locate(runner, data_batch, records)
        path = Path(runner.work_dir) / 'non_finite.json'
        if runner.rank == 0:
            _write_report(path, runner, _culprits(records), location)
        raise UserError(
            f'{subject} was not finite in {self.limit} steps in a row, last at iteration {runner.iter + 1} '
            f'(images {names}); first not finite: {location} ({path}). Those steps changed no weights: use '
            '--resume with a smaller optim_wrapper.optimizer.lr, optim_wrapper.clip_grad, or without --amp'
        )

    def _restore_statistics(self) -> None:
        """Undo what the forward pass did to BatchNorm's statistics."""
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._saved_statistics)

    def _record(self, data_batch: Mapping | None, outputs: Mapping[str, Tensor] | None) -> dict[str, object]:
        """Describe this process's part of a skipped step."""
        images = [
            dict(id=sample.metainfo.get('img_id'), path=sample.metainfo.get('img_path'))
            for sample in samples_of(data_batch)
        ]
        losses = {
            name: str(float(value.detach()))
            for name, value in (outputs or {}).items()
            if isinstance(value, Tensor) and 'loss' in name
        }
        return dict(bad=_is_set(self._own_loss_bad), images=images, losses=losses)

    def _locate(self, runner: Runner, data_batch: Mapping | None, records: Sequence[Mapping]) -> str:
        """Repeat the forward pass; return what is not finite first, in a process with a bad loss if any."""
        seed_all(runner.seed, runner.iter, runner.rank)
        with runner.optim_wrapper.optim_context(runner.model):
            batch = data_batch if self._batch is None else self._batch
            location = first_non_finite(unwrap_model(runner.model), batch)
        locations = all_gather_object(location)
        candidates = zip(locations, records, strict=True)
        return next((found for found, record in candidates if record['bad']), locations[0])

    def _scaler_gave_up(self, runner: Runner) -> bool:
        """Return whether float16's loss scaler skipped the step although its scale is already below 1."""
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            return False
        return not self._optimizer_called and scaler.get_scale() < 1


def _is_set(flag: Tensor | None) -> bool:
    return flag is not None and bool(flag)


def _culprits(records: Sequence[Mapping]) -> Sequence[Mapping]:
    """Return the records with a bad loss, or all: every process contributes to a bad gradient."""
    return [record for record in records if record['bad']] or records


def _write_report(path: Path, runner: Runner, culprits: Sequence[Mapping], location: str) -> None:
    report = dict(
        iteration=runner.iter + 1,
        epoch=runner.epoch + 1,
        images=[image for record in culprits for image in record['images']],
        losses=culprits[0]['losses'],
        first=location,
    )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + '\n')


@torch.no_grad()
def first_non_finite(model: nn.Module, batch: Mapping) -> str:
    """Repeat a batch's forward pass; name what is not finite first: a parameter, the input or an output."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f'the parameter {name}'
    found: list[str] = []

    def check(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if not found and not _is_finite(output):
            found.append(f'the output of {name or "the model"} ({type(module).__name__})')

    handles = [module.register_forward_hook(partial(check, name)) for name, module in model.named_modules()]
    try:
        data = model.data_preprocessor(batch, True)
        if not _is_finite(data):
            found[:] = ['the images, as the model gets them']
        model(**data, mode='loss')  # in any case: all processes take part in the forward pass
    except (ValueError, RuntimeError, AssertionError) as error:  # heads that reject such numbers
        found.append(f'{type(error).__name__} in the forward pass ({" ".join(str(error).split())[:80]})')
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else 'nothing in the forward pass: a gradient'


def _is_finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))
