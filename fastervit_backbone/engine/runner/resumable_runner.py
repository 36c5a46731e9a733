"""mmengine's runner with atomic checkpoints and exact resuming."""

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.checkpoint import load_state_dict

from ...checkpoints.io import read_checkpoint, unwrap_state_dict
from ...utils.errors import UserError
from ...utils.verbosity import is_verbose
from ..console import quiet_logger, silent_stderr
from .loops import (
    RESUMABLE_LOOPS,
    RepeatEvaluationHook,
    SeedIterationHook,
    resumable_loader,
    share_gradients,
)
from .schedules import describe_changes, fast_forward, schedule_of
from .workers import with_signal_proof_workers

_TIMESTAMP = '%Y%m%d_%H%M%S'  # mmengine's


class ResumableRunner(Runner):
    """mmengine's runner, with the training loops of :mod:`fastervit_backbone.engine.runner.loops`."""

    def __init__(
        self,
        *args,
        train_dataloader: Mapping | None = None,
        val_dataloader: Mapping | None = None,
        train_cfg: Mapping | None = None,
        custom_hooks: list | None = None,
        param_scheduler: Mapping | list | None = None,
        **kwargs,
    ) -> None:
        self._scheduler_configs = copy.deepcopy(param_scheduler)
        self._checkpoint_schedulers: object = []
        #: Applied to the weights of a checkpoint that is not resumed.
        self.adapt_weights: Callable[[dict], dict] = dict
        loop = RESUMABLE_LOOPS.get((train_cfg or {}).get('type'))
        if loop is not None and isinstance(train_dataloader, Mapping):
            train_cfg = dict(train_cfg, type=loop)
            train_dataloader = with_signal_proof_workers(resumable_loader(train_dataloader))
            custom_hooks = [*(custom_hooks or ()), SeedIterationHook(), RepeatEvaluationHook()]
            if isinstance(val_dataloader, Mapping):
                val_dataloader = with_signal_proof_workers(val_dataloader)
        super().__init__(
            *args,
            train_dataloader=train_dataloader,
            val_dataloader=val_dataloader,
            train_cfg=train_cfg,
            custom_hooks=custom_hooks,
            param_scheduler=param_scheduler,
            **kwargs,
        )

    def setup_env(self, env_cfg: dict) -> None:
        """Name the run by its second, and one that begins within the second of another by the next free one.

        Otherwise both would write the same log.
        """
        super().setup_env(env_cfg)
        names = [self._free_timestamp(self._timestamp)]
        broadcast_object_list(names)
        self._timestamp = names[0]

    def _free_timestamp(self, timestamp: str) -> str:
        started = [name for name in MMLogger._instance_dict if name.endswith(timestamp)]
        if not started and not os.path.exists(os.path.join(self.work_dir, timestamp)):
            return timestamp
        later = datetime.strptime(timestamp, _TIMESTAMP) + timedelta(seconds=1)
        return self._free_timestamp(later.strftime(_TIMESTAMP))

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Show only our own lines on the screen, unless ``--verbose``."""
        logger = super().build_logger(*args, **kwargs)
        if not is_verbose():
            quiet_logger(logger)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        with (
            nullcontext() if is_verbose() else silent_stderr()
        ):  # it asks for compilers that need not be there
            super()._log_env(env_cfg)

    def dump_config(self) -> None:
        """No-op: :func:`~fastervit_backbone.engine.runner.build.build_runner` writes the config."""

    def load_checkpoint(
        self,
        filename: str,
        map_location: object = 'cpu',
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict[str, object]:
        """Read a checkpoint, safetensors included, onto the CPU, without executing code from it.

        Unless a run is resumed, tensors of a different shape are dropped with a warning.

        Raises:
            CheckpointError: it cannot be read.
            UserError: ``revise_keys`` is given.
        """
        if revise_keys is not None:
            raise UserError(
                f"{filename}: revise_keys is not supported, write the file with the model's own names"
            )
        checkpoint = read_checkpoint(filename)
        weights = unwrap_state_dict(checkpoint)
        checkpoint['state_dict'] = weights = weights if self._resume else self.adapt_weights(weights)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if self._resume:
            # mmengine compares pickles, which can differ although their contents are equal
            meta = checkpoint.get('meta', {})
            metainfo = getattr(self.train_dataloader.dataset, 'metainfo', None)
            if meta.get('dataset_meta') == metainfo:
                meta['dataset_meta'] = metainfo
        else:
            self._drop_mismatched(weights, model.state_dict(), filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_state_dict(model, weights, strict, self.logger)
        self._has_loaded, self._meta = True, checkpoint.get('meta', {})
        self._checkpoint_schedulers = copy.deepcopy(checkpoint.get('param_schedulers', []))
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def _drop_mismatched(self, weights: dict, expected: Mapping, filename: str) -> None:
        """Remove weights of a different shape than the model's, in place."""
        mismatched = [k for k, v in weights.items() if k in expected and expected[k].shape != v.shape]
        for key in mismatched:
            del weights[key]
        if mismatched:
            self.logger.warning(
                f'{len(mismatched)} tensors of {filename} have a different shape in this model and are '
                f'initialized from scratch: {", ".join(mismatched)}'
            )

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume at the checkpoint's position in the epoch, with the config's schedule and learning rate."""
        fresh = [dict(group) for group in self._groups()]
        schedulers = self._schedulers()
        fresh_states = [copy.deepcopy(scheduler.state_dict()) for scheduler in schedulers]
        super().resume(filename, *args, **kwargs)
        for key, value in self.message_hub.runtime_info.items():
            if key.startswith(('best_ckpt', 'last_ckpt')) and isinstance(value, str):
                # recorded with the folder of the run that wrote it, whose best file would be deleted
                self.message_hub.update_info(key, os.path.join(self.work_dir, os.path.basename(value)))
        if hasattr(self.train_loop, 'restore_position'):
            self.train_loop.restore_position(self._meta)
        groups = self._groups()
        if not fresh or len(fresh) != len(groups):
            return
        self._apply_learning_rate(fresh, groups)
        if not isinstance(self._checkpoint_schedulers, list):
            return
        changes = describe_changes(self._checkpoint_schedulers, fresh_states)
        if changes:
            before = groups[0]['lr']
            self._apply_schedules(schedulers, fresh_states, fresh)
            self.logger.warning(
                f"the config's schedule replaces the checkpoint's ({', '.join(changes)}): learning rate "
                f'{before:.4g} -> {groups[0]["lr"]:.4g}'
            )

    def _apply_learning_rate(self, fresh: Sequence[Mapping], groups: Sequence[dict]) -> None:
        """Scale the resumed learning rates, in optimizer and schedulers, to the config's initial ones."""
        configured, saved = ([_initial_lr(group) for group in part] for part in (fresh, groups))
        if all(map(math.isclose, configured, saved)):
            return
        ratios = [new / old if old else 1.0 for new, old in zip(configured, saved, strict=True)]
        self.logger.warning(
            f'the learning rate is {ratios[0]:.4g} times that of the checkpoint, as the config says'
        )
        for group, ratio in zip(groups, ratios, strict=True):
            for key in {'lr', 'initial_lr'} & group.keys():
                group[key] *= ratio
        for scheduler in self._schedulers():
            # those that follow a metric have no base values
            if scheduler.param_name == 'lr' and hasattr(scheduler, 'base_values'):
                pairs = zip(scheduler.base_values, ratios, strict=True)
                scheduler.base_values = [value * ratio for value, ratio in pairs]

    def _apply_schedules(
        self, schedulers: Sequence[_ParamScheduler], fresh_states: Sequence[dict], fresh: Sequence[Mapping]
    ) -> None:
        """Reset schedulers and what they set to the first iteration, then step them to the run's position."""
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
            # they follow metrics, which are not stored: keep their position
            for scheduler, state in zip(schedulers, fresh_states, strict=True):
                vars(scheduler).update(schedule_of(state))
            return
        names = {scheduler.param_name for scheduler in schedulers}
        names |= {state['param_name'] for state in self._checkpoint_schedulers}
        keys = {key for name in names for key in (name, f'initial_{name}')}
        for group, first in zip(self._groups(), fresh, strict=True):
            group.update({key: first[key] for key in keys & first.keys()})
        for scheduler, state in zip(schedulers, fresh_states, strict=True):
            scheduler.load_state_dict(state)
        configs = self._scheduler_configs or []
        configs = configs if isinstance(configs, list) else [configs]
        in_epochs = [
            config.get('by_epoch', True) if isinstance(config, Mapping) else scheduler.by_epoch
            for config, scheduler in zip(configs, schedulers, strict=True)
        ]
        loop = self.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        fast_forward(
            schedulers,
            in_epochs,
            iterations=loop.iter,
            epochs=loop.epoch if by_epoch else 0,
            within=loop.iter - getattr(loop, '_begin', loop.iter) if by_epoch else 0,
            length=len(loop.dataloader) if by_epoch else None,
        )

    def _groups(self) -> list[dict]:
        return self.optim_wrapper.param_groups if isinstance(self.optim_wrapper, OptimWrapper) else []

    def _schedulers(self) -> list[_ParamScheduler]:
        return self.param_schedulers if isinstance(self.param_schedulers, list) else []

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Write a temporary file, then rename it: a kill or a full disk keeps the previous checkpoint intact.

        Raises:
            UserError: it cannot be written.
        """
        path = Path(out_dir) / filename
        part = path.with_name(f'.{filename}.part')
        share_gradients(self)
        try:
            super().save_checkpoint(out_dir, part.name, *args, **kwargs)
            if is_main_process() and part.is_file():  # sharded checkpoints are folders
                with part.open('r+b') as file:
                    os.fsync(file.fileno())
                os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(
                f'cannot write the checkpoint {path} ({error.strerror or error}): make space; --resume '
                'continues from the previous one'
            ) from error


def _initial_lr(group: Mapping) -> float:
    """Return the learning rate of a parameter group before any schedule."""
    return group.get('initial_lr', group['lr'])
