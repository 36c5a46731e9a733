"""mmengine's two training loops, made to go on from any iteration as if they had not stopped."""

from collections.abc import Mapping

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from .sampling import FaultTolerantDataset, ResumableBatchSampler, seed_all


class ResumableEpochLoop(EpochBasedTrainLoop):
    """Epochs; one that was broken off goes on within."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._begin = 0  # iteration of the epoch's first step

    def note_place(self, meta: dict) -> None:
        """Write into a checkpoint's meta where in its epoch it is."""
        begin = self._begin if meta['epoch'] == self._epoch and meta['iter'] > self._begin else meta['iter']
        meta.update(epoch_begin=begin, epoch_length=len(self.dataloader))

    def find_place(self, meta: Mapping) -> None:
        """Go on from there; where an epoch has another length now (batch, processes or images are others), it begins anew."""
        length = len(self.dataloader)
        self._begin = meta.get('epoch_begin', meta['epoch'] * length)
        before = meta.get('epoch_length', length)
        if not 0 <= self._iter - self._begin <= length or before != length:
            if self._iter != self._begin:
                self.runner.logger.warning(
                    f'an epoch has {length} steps, and had {before}: epoch {self._epoch + 1} begins anew'
                )
            self._begin = self._iter

    def run_epoch(self) -> None:
        """The rest of the epoch."""
        done = self._iter - self._begin
        self.dataloader.batch_sampler.begin(self._iter, done, self.runner.seed)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for i, batch in enumerate(self.dataloader, done):
            self.run_iter(i, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._begin = self._iter

    def evaluation_is_due(self) -> bool:
        """Whether an evaluation belongs here, before the next iteration."""
        if not self._epoch or self._iter != self._begin:
            return False
        self._decide_current_val_interval()
        return self._epoch >= self.val_begin and (
            self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        )


class ResumableIterLoop(IterBasedTrainLoop):
    """Iterations."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.dataloader_iterator = _Endless(self)

    def note_place(self, meta: dict) -> None:
        """The number of the iteration says it all."""

    def find_place(self, meta: Mapping) -> None:
        """Known."""

    def evaluation_is_due(self) -> bool:
        """Whether an evaluation belongs here, before the next iteration."""
        if not self._iter:
            return False
        self._decide_current_val_interval()
        return self._iter >= self.val_begin and (
            self._iter % self.val_interval == 0 or self._iter == self._max_iters
        )


class _Endless:
    """Batches pass after pass, of samplers that end and of those that do not."""

    def __init__(self, loop: ResumableIterLoop) -> None:
        self.loop, self.batches, self.iterator = loop, loop.dataloader.batch_sampler, None

    def skip_iter(self, count: int) -> None:
        """The loop calls this when it goes on; where it goes on from is known without."""

    def __next__(self) -> dict:
        if self.iterator is None:
            self._start()
        try:
            return next(self.iterator)
        except StopIteration:
            self._start()
            return next(self.iterator)

    def _start(self) -> None:
        done = self.loop.iter
        passes, skip = (0, done) if self.batches.endless else divmod(done, len(self.batches))
        if hasattr(self.batches.sampler, 'set_epoch'):
            self.batches.sampler.set_epoch(passes)
        self.batches.begin(done, skip, self.loop.runner.seed)
        self.iterator = iter(self.loop.dataloader)


class SeedIterationHook(Hook):
    """What is random in an iteration follows from the seed, its number and the process: only the place needs to be kept to go on."""

    priority = 'HIGHEST'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seed."""
        seed_all(runner.seed, runner.iter, runner.rank)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the place."""
        runner.train_loop.note_place(checkpoint['meta'])


class RepeatEvaluationHook(Hook):
    """A run that goes on from where an evaluation was due makes it (again): it may have been killed within."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Evaluate if due."""
        if runner.val_loop is not None and runner.train_loop.evaluation_is_due():
            runner.val_loop.run()


@HOOKS.register_module()
class EarlyStopping(EarlyStoppingHook):
    """mmengine's, whose count begins after some epochs and goes into checkpoints.

    Args:
        begin: the first epoch whose evaluation counts.
        arguments: mmengine's.
    """

    def __init__(self, begin: int = 0, **arguments) -> None:
        super().__init__(**arguments)
        self.begin = begin

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Count."""
        if runner.epoch >= self.begin:
            super().after_val_epoch(runner, metrics or {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep."""
        checkpoint['early_stopping'] = dict(wait_count=self.wait_count, best_score=self.best_score)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take back."""
        if runner._resume:
            vars(self).update(checkpoint.get('early_stopping', {}))


#: mmengine's loops, and the same made exact.
RESUMABLE_LOOPS = {'EpochBasedTrainLoop': ResumableEpochLoop, 'IterBasedTrainLoop': ResumableIterLoop}


def exact_loader(loader: Mapping) -> dict:
    """A train dataloader's config with batches and data set as the exact loops need them."""
    loader = dict(loader)
    batches = dict(
        type=ResumableBatchSampler,
        batch_sampler=loader.pop('batch_sampler', None),
        drop_last=loader.pop('drop_last', False),
    )
    return loader | dict(
        dataset=dict(type=FaultTolerantDataset, dataset=loader['dataset']), batch_sampler=batches
    )
