"""mmengine's runner, with checkpoints that are whole or not there, and training that goes on exactly."""

import copy
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.checkpoint import load_state_dict

from ...checkpoints.io import read_checkpoint, unwrap_state_dict
from ...utils.errors import UserError
from .loops import RESUMABLE_LOOPS, RepeatEvaluationHook, SeedIterationHook, exact_loader
from .schedules import describe_changes, fast_forward, schedule_of
from .workers import with_signal_proof_workers


class ResumableRunner(Runner):
    """Where training uses mmengine's own loops, it is exact: :mod:`fastervit_backbone.engine.runner.loops`."""

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
        self._schedule_configs, self._kept_schedules = copy.deepcopy(param_scheduler), []
        loop = RESUMABLE_LOOPS.get((train_cfg or {}).get('type'))
        if loop is not None and isinstance(train_dataloader, Mapping):
            train_cfg, train_dataloader = (
                dict(train_cfg, type=loop),
                with_signal_proof_workers(exact_loader(train_dataloader)),
            )
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

    def dump_config(self) -> None:
        """Nothing: the config goes to the work dir as it was asked for, by :func:`~fastervit_backbone.engine.runner.build.build_runner`."""

    def load_checkpoint(
        self,
        filename: str,
        map_location: object = 'cpu',
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict[str, object]:
        """Read as everything here is read: safetensors too, and no code out of a file. Always onto the CPU; ``module.`` goes.

        Tensors of another shape are left out, and said, unless a run goes on.

        Raises:
            CheckpointError: it cannot be.
        """
        if revise_keys is not None:
            raise UserError(
                f'{filename}: keys are not revised here, write the file anew with the names that the model has'
            )
        checkpoint = read_checkpoint(filename)
        checkpoint['state_dict'] = weights = unwrap_state_dict(checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        own = model.state_dict()
        other = (
            [] if self._resume else [k for k, v in weights.items() if k in own and own[k].shape != v.shape]
        )
        for key in other:
            del weights[key]
        if other:
            self.logger.warning(
                f'{len(other)} tensors of {filename} have another shape here, and start fresh: {", ".join(other)}'
            )
        if self._resume:  # mmengine compares pickles, which differ where what is in them does not
            meta, now = checkpoint.get('meta', {}), getattr(self.train_dataloader.dataset, 'metainfo', None)
            if meta.get('dataset_meta') == now:
                meta['dataset_meta'] = now
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_state_dict(model, weights, strict, self.logger)
        self._has_loaded, self._meta = True, checkpoint.get('meta', {})
        self._kept_schedules = copy.deepcopy(checkpoint.get('param_schedulers', []))
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Go on from a checkpoint, at the same place of the epoch, with the schedule and the learning rate that the config has now."""
        fresh = [dict(group) for group in self._groups()]
        schedulers = self.param_schedulers if isinstance(self.param_schedulers, list) else []
        starts = [copy.deepcopy(scheduler.state_dict()) for scheduler in schedulers]
        super().resume(filename, *args, **kwargs)
        if hasattr(self.train_loop, 'find_place'):
            self.train_loop.find_place(self._meta)
        groups = self._groups()
        if not fresh or len(fresh) != len(groups):
            return
        wanted, kept = ([self._initial(group) for group in part] for part in (fresh, groups))
        if not all(map(math.isclose, wanted, kept)):
            ratios = [new / old if old else 1.0 for new, old in zip(wanted, kept, strict=True)]
            self.logger.warning(
                f'the learning rate is {ratios[0]:.4g} times that of the checkpoint from here on, as the config says'
            )
            self._scale_rates(groups, ratios)
        changes = (
            describe_changes(self._kept_schedules, starts) if isinstance(self._kept_schedules, list) else []
        )
        if changes:
            before = groups[0]['lr']
            self._begin_schedules(schedulers, starts, fresh)
            self.logger.warning(
                f"the schedule is the config's from here on, not the checkpoint's ({', '.join(changes)}): learning rate {before:.4g} -> "
                f'{groups[0]["lr"]:.4g}'
            )

    def _scale_rates(self, groups: Sequence[dict], ratios: Sequence[float]) -> None:
        for group, ratio in zip(groups, ratios, strict=True):
            for key in ('lr', 'initial_lr'):
                if key in group:
                    group[key] *= ratio
        for scheduler in self.param_schedulers if isinstance(self.param_schedulers, list) else ():
            if scheduler.param_name == 'lr' and hasattr(
                scheduler, 'base_values'
            ):  # what follows metrics has none
                scheduler.base_values = [
                    value * ratio for value, ratio in zip(scheduler.base_values, ratios, strict=True)
                ]

    def _begin_schedules(
        self, schedulers: Sequence[_ParamScheduler], starts: Sequence[dict], fresh: Sequence[Mapping]
    ) -> None:
        """Put schedulers and what they set back to the first iteration, as the config has them; then step them to where the run is."""
        if any(
            getattr(scheduler, 'need_val_args', False) for scheduler in schedulers
        ):  # follow metrics, which are gone: no way back
            for scheduler, state in zip(schedulers, starts, strict=True):
                vars(scheduler).update(schedule_of(state))
            return
        names = {scheduler.param_name for scheduler in schedulers} | {
            state['param_name'] for state in self._kept_schedules
        }
        for group, first in zip(self._groups(), fresh, strict=True):
            group.update(
                {key: first[key] for name in names for key in (name, f'initial_{name}') if key in first}
            )
        for scheduler, state in zip(schedulers, starts, strict=True):
            scheduler.load_state_dict(state)
        configs = self._schedule_configs or []
        configs = configs if isinstance(configs, list) else [configs]
        in_epochs = [
            c.get('by_epoch', True) if isinstance(c, Mapping) else s.by_epoch
            for c, s in zip(configs, schedulers, strict=True)
        ]
        loop = self.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        length = len(loop.dataloader) if by_epoch else None
        within = loop.iter - getattr(loop, '_begin', loop.iter) if by_epoch else 0
        fast_forward(
            schedulers,
            in_epochs,
            iterations=loop.iter,
            epochs=loop.epoch if by_epoch else 0,
            within=within,
            length=length,
        )

    def _groups(self) -> list[dict]:
        return self.optim_wrapper.param_groups if isinstance(self.optim_wrapper, OptimWrapper) else []

    @staticmethod
    def _initial(group: Mapping) -> float:
        """A group's learning rate before any schedule."""
        return group.get('initial_lr', group['lr'])

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Write beside, then put in place: killed or out of space, the file that was there is there.

        Raises:
            UserError: it cannot be written.
        """
        path = Path(out_dir) / filename
        part = path.with_name(f'.{filename}.part')
        try:
            super().save_checkpoint(out_dir, part.name, *args, **kwargs)
            if is_main_process() and part.is_file():  # sharded checkpoints are folders of their own
                with part.open('r+b') as file:
                    os.fsync(file.fileno())
                os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(
                f'cannot write the checkpoint {path} ({error.strerror or error}): make space there; --resume goes on from the one before'
            ) from error
