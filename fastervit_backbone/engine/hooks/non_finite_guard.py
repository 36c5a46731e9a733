"""Leave out steps whose loss or gradients are not finite."""

import copy
import json
from collections.abc import Callable, Mapping
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
from ..runner.sampling import seed_all
from .unreadable_images import samples_of


class NonFiniteGuardHook(Hook):
    """A step whose loss or gradients are not finite leaves the weights alone; ``limit`` of them in a row end the run, with a report.

    Both are judged before the optimizer's step, and by all processes together: one that stopped alone would leave the others waiting.
    With gradient accumulation a step is made of several iterations, and one of them without a finite loss is enough to leave it out.
    ``non_finite.json`` in the work dir has iteration, images, losses, and the first module whose output is not finite.
    """

    priority = 'VERY_HIGH'

    def __init__(self, limit: int) -> None:
        self.limit, self.bad, self._lost, self._stepped = limit, 0, False, False
        self._own_bad: Tensor | None = None  # whether the loss of this iteration is bad, in this process
        self._bad_loss: Tensor | None = None  # in any process
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
        self._own_bad = bad.clone()
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
        if get_world_size() > 1:  # sharded gradients are other ones in every process
            lost = (~finite).float()
            all_reduce(lost, 'max')
            finite = lost == 0
        if not bool(finite):
            self._lost = True
            for p in parameters:
                p.grad = None  # the optimizer passes over what has none

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Mapping | None = None,
        outputs: Mapping[str, Tensor] | None = None,
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
        mine = dict(
            bad=self._own_bad is not None and bool(self._own_bad),
            images=[
                dict(id=s.metainfo.get('img_id'), path=s.metainfo.get('img_path'))
                for s in samples_of(data_batch)
            ],
            losses={k: str(float(v)) for k, v in losses.items()},
        )
        everyone = all_gather_object(mine)
        guilty = [one for one in everyone if one['bad']] or everyone  # a gradient is all processes' own
        images = [image for one in guilty for image in one['images']]
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
            where = first_non_finite(
                unwrap_model(runner.model), data_batch if self._batch is None else self._batch
            )
        found = all_gather_object(where)
        where = next((w for w, one in zip(found, everyone, strict=True) if one['bad']), found[0])
        report = dict(
            iteration=runner.iter + 1,
            epoch=runner.epoch + 1,
            images=images,
            losses=guilty[0]['losses'],
            first=where,
        )
        path = Path(runner.work_dir) / 'non_finite.json'
        if runner.rank == 0:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(report, indent=2) + '\n')
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
            found[:] = ['the images, as the model gets them']
        model(**data, mode='loss')  # in any case: of several processes all go through it together
    except (ValueError, RuntimeError, AssertionError) as error:  # heads that take no such numbers
        found.append(f'{type(error).__name__} in the forward pass ({" ".join(str(error).split())[:80]})')
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else 'nothing in the forward pass: a gradient'


def _finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    values = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    )
    return all(map(_finite, values))
