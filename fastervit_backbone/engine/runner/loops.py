"""mmengine's two training loops, resumable at any iteration with the result of an uninterrupted run."""

from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from .sampling import FaultTolerantDataset, ResumableBatchSampler, seed_all


class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's epochs; an interrupted one is resumed at its next iteration."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._begin = 0  # iteration at which the current epoch began

    def save_position(self, meta: dict) -> None:
        """Write the position within the epoch into a checkpoint's meta."""
        is_within = meta['epoch'] == self._epoch and meta['iter'] > self._begin
        meta.update(epoch_begin=self._begin if is_within else meta['iter'], epoch_length=len(self.dataloader))

    def restore_position(self, meta: Mapping) -> None:
        """Continue at a checkpoint's position.

        If an epoch has a different length now (batch size, processes or images changed), it is restarted.
        """
        length = len(self.dataloader)
        self._begin = meta.get('epoch_begin', meta['epoch'] * length)
        previous_length = meta.get('epoch_length', length)
        if 0 <= self._iter - self._begin <= length == previous_length:
            return
        if self._iter != self._begin:
            self.runner.logger.warning(
                f'an epoch now has {length} steps instead of {previous_length}: '
                f'restarting epoch {self._epoch + 1}'
            )
        self._begin = self._iter

    def run_epoch(self) -> None:
        """Run the rest of the epoch."""
        done = self._iter - self._begin
        self.dataloader.batch_sampler.start_at(self._iter, done, self.runner.seed)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for i, batch in enumerate(self.dataloader, done):
            self.run_iter(i, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._begin = self._iter

    def evaluation_is_due(self) -> bool:
        """Return whether an evaluation comes before the next iteration."""
        is_between_epochs = self._epoch > 0 and self._iter == self._begin
        return is_between_epochs and _is_due(self, self._epoch, self._max_epochs)


class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's iterations."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.dataloader_iterator = _EndlessBatches(self)

    def save_position(self, meta: dict) -> None:
        """No-op: the iteration in ``meta`` is the position."""

    def restore_position(self, meta: Mapping) -> None:
        """No-op: the loop has the iteration already."""

    def evaluation_is_due(self) -> bool:
        """Return whether an evaluation comes before the next iteration."""
        return self._iter > 0 and _is_due(self, self._iter, self._max_iters)


def _is_due(loop: ResumableEpochLoop | ResumableIterLoop, done: int, total: int) -> bool:
    loop._decide_current_val_interval()
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == total)


class _EndlessBatches:
    """Iterate over a loop's dataloader again and again, from the loop's iteration on."""

    def __init__(self, loop: ResumableIterLoop) -> None:
        self.loop, self.sampler, self.iterator = loop, loop.dataloader.batch_sampler, None

    def skip_iter(self, count: int) -> None:
        """No-op: a resumed loop calls this, but its iteration is known."""

    def __next__(self) -> dict:
        if self.iterator is None:
            self._start_pass()
        try:
            return next(self.iterator)
        except StopIteration:
            self._start_pass()
            return next(self.iterator)

    def _start_pass(self) -> None:
        done = self.loop.iter
        passes, skip = (0, done) if self.sampler.endless else divmod(done, len(self.sampler))
        if hasattr(self.sampler.sampler, 'set_epoch'):
            self.sampler.sampler.set_epoch(passes)
        self.sampler.start_at(done, skip, self.loop.runner.seed)
        self.iterator = iter(self.loop.dataloader)


class SeedIterationHook(Hook):
    """Seed every iteration from the run's seed, its number and the rank: checkpoints need no random state."""

    priority = 'HIGHEST'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seed all generators."""
        seed_all(runner.seed, runner.iter, runner.rank)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the loop's position."""
        runner.train_loop.save_position(checkpoint['meta'])


class RepeatEvaluationHook(Hook):
    """Repeat an evaluation that was due when a resumed run stopped: it may have been interrupted."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Evaluate if due."""
        if runner.val_loop is not None and runner.train_loop.evaluation_is_due():
            runner.val_loop.run()


@HOOKS.register_module()
class EarlyStopping(EarlyStoppingHook):
    """mmengine's EarlyStoppingHook, which starts to count at ``begin`` and saves its count in checkpoints.

    Args:
        begin: first epoch whose evaluation counts.
        arguments: those of mmengine's hook.
    """

    def __init__(self, begin: int = 0, **arguments) -> None:
        super().__init__(**arguments)
        self.begin = begin

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Count an evaluation."""
        if runner.epoch >= self.begin:
            super().after_val_epoch(runner, metrics or {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save state."""
        checkpoint['early_stopping'] = dict(wait_count=self.wait_count, best_score=self.best_score)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore state."""
        if runner._resume:
            vars(self).update(checkpoint.get('early_stopping', {}))


#: mmengine's loops and their resumable versions.
RESUMABLE_LOOPS = {'EpochBasedTrainLoop': ResumableEpochLoop, 'IterBasedTrainLoop': ResumableIterLoop}


def resumable_loader(loader: Mapping) -> dict:
    """Return a training dataloader's config with the batch sampler and data set that resumable loops need."""
    loader = dict(loader)
    batch_sampler = dict(
        type=ResumableBatchSampler,
        batch_sampler=loader.pop('batch_sampler', None),
        drop_last=loader.pop('drop_last', False),
    )
    dataset = dict(type=FaultTolerantDataset, dataset=loader['dataset'])
    return loader | dict(dataset=dataset, batch_sampler=batch_sampler)


def share_gradients(runner: Runner) -> None:
    """Replace the gradients of an incomplete step by their mean over the processes; call it in all of them.

    The mean that the step takes in the end stays the same, and one process's checkpoint holds all of it.
    """
    if get_world_size() > 1 and not step_is_complete(runner):
        for parameter in runner.model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:  # this process's batches did not need it
                    parameter.grad = torch.zeros_like(parameter)
                all_reduce(parameter.grad, 'mean')


def step_is_complete(runner: Runner) -> bool:
    """Return whether the optimizer has used all gradients that were accumulated."""
    return not isinstance(runner.optim_wrapper, OptimWrapper) or runner.optim_wrapper.should_update()
