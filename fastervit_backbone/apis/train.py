"""Training behind tools/train.py."""

import copy
import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..checkpoints.io import fetch, read_checkpoint, safe_loading, unwrap_state_dict
from ..checkpoints.published import check_fit
from ..engine.config.adapt import check_batch
from ..engine.config.auto_scale_lr import accumulated_iterations, scale_learning_rate
from ..engine.hooks.non_finite_guard import NonFiniteGuardHook
from ..engine.hooks.save_on_signal import SaveOnSignalHook
from ..engine.hooks.unreadable_images import UnreadableImageHook
from ..engine.processes import rank0_print, world_size
from ..engine.runner.build import build_runner, drop_pretrained, prepare, unwrap_model
from ..engine.runner.work_dir import checkpoints_of
from ..engine.runner.workers import release_workers
from ..utils.errors import CheckpointError, UserError


def train(
    config_path: str | Path,
    *,
    work_dir: str | Path | None = None,
    amp: bool = False,
    resume: bool | str = False,
    seed: int | None = None,
    auto_scale_lr: bool = True,
    max_unreadable: int = 10,
    max_non_finite: int = 5,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
) -> nn.Module:
    """Train as a config says.

    Args:
        config_path: the config.
        work_dir: where checkpoints and logs go; default ``work_dirs/<config name>``.
        amp: mixed precision, bfloat16 where the device has it, else float16 with loss scaling; needs a CUDA device.
        resume: True or 'auto' goes on from the last checkpoint in ``work_dir`` (from the start where there is none), a path from that one.
        seed: of everything random.
        auto_scale_lr: scale the learning rate linearly to the real batch (batch size x processes).
        max_unreadable: images that cannot be read and are left out before the run stops.
        max_non_finite: steps in a row whose loss or gradients are not finite, and which are left out, before the run stops.
        options: ``--cfg-options``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        the trained model.

    Raises:
        UserError: bad input. Configs, data and files are checked before anything is built or written.
        Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
    """
    options, resume = dict(options or {}), True if resume == 'auto' else resume
    if amp:
        if not torch.cuda.is_available():
            raise UserError('--amp needs a CUDA device, and torch sees none here: leave it out')
        options = {f'optim_wrapper.{k}': v for k, v in amp_options().items()} | options
    config = prepare(config_path, work_dir, options, launcher, splits=('train', 'val'))
    if min(max_unreadable, max_non_finite - 1) < 0:
        raise UserError(
            f'--max-unreadable {max_unreadable}, --max-non-finite {max_non_finite}: numbers from 0, and from 1'
        )
    if seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=seed)
    _keep_previous(config)
    asked = copy.deepcopy(config)
    weights = _find_start(config, resume or config.get('resume', False))
    if config.get('resume') and asked.get('resume'):
        asked.load_from = None  # what was resumed from, which another run need not find
    if config.get('randomness') is not None:
        asked.randomness = config.randomness
    scale_learning_rate(config, auto_scale_lr, world_size(launcher))
    check_batch(config)
    runner = build_runner(config, launcher, asked)
    if weights is not None and isinstance(runner.model, nn.Module):  # not yet with mmengine's FlexibleRunner
        check_fit(unwrap_model(runner.model), weights, config.load_from, partial=not config.resume)
    del weights  # the runner reads its own: do not hold a second copy while it trains
    stopper = SaveOnSignalHook()
    for hook in (
        _KeepCategoryIds(),
        UnreadableImageHook(max_unreadable),
        NonFiniteGuardHook(max_non_finite),
        stopper,
    ):
        runner.register_hook(hook)
    try:
        with safe_loading(), _plain_errors(config):
            return runner.train()
    finally:
        stopper.restore()
        release_workers()


def amp_options() -> dict[str, object]:
    """For ``optim_wrapper``: bfloat16 where the CUDA device computes in it, which has float32's range and needs no loss scaling."""
    wide = torch.cuda.is_bf16_supported(including_emulation=False)
    dtype, scale = ('bfloat16', dict(enabled=False)) if wide else ('float16', 'dynamic')
    return dict(type='AmpOptimWrapper', dtype=dtype, loss_scale=scale)


@contextmanager
def _plain_errors(config: Config) -> Iterator[None]:
    """What can happen to a run in words, with what to do."""
    again = '--resume goes on from the last checkpoint'
    try:
        yield
    except UserError as error:
        if not str(error).startswith('Caught '):
            raise
        raise UserError(
            str(error).rsplit('Error: ', 1)[-1]
        ) from error  # of a process that loads data, with its traceback
    except URLError as error:  # mmdet's and mmseg's own backbones fetch theirs when training starts
        raise UserError(
            f'pretrained weights cannot be fetched ({error.reason}): connect to the network, or start from nothing with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    except UnpicklingError as error:
        raise CheckpointError(
            f'pretrained weights hold more than data ({str(error).splitlines()[0]}): refused'
        ) from error
    except torch.cuda.OutOfMemoryError as error:
        batch, parts = config.train_dataloader.batch_size, accumulated_iterations(config)
        same = (
            f' with optim_wrapper.accumulative_counts={2 * parts} (a step sees as many images)'
            if batch > 1
            else ''
        )
        raise UserError(
            f'the GPU has too little memory for batch {batch} ({str(error).split(". ")[0]}): '
            f'train_dataloader.batch_size={max(1, batch // 2)}{same}, --amp, or model.backbone.with_cp=True; {again}'
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f'cannot write {error.filename or config.work_dir} ({error.strerror}): make space; {again}'
        ) from error
    except RuntimeError as error:
        if not re.match(r'DataLoader worker \(pid', str(error)):
            raise
        cause = str(error).split('\n')[0]
        raise UserError(
            f'a process that loads data died ({cause}), often for lack of memory: train_dataloader.num_workers='
            f'{max(0, config.train_dataloader.get("num_workers", 0) // 2)} takes less; {again}'
        ) from error


class _KeepCategoryIds(Hook):
    """Notes the data set's own category ids with its classes, which go into every checkpoint: predictions carry them."""

    def before_run(self, runner: Runner) -> None:
        dataset = leaf = runner.train_dataloader.dataset
        while not hasattr(leaf, 'cat_ids'):  # within wrappers
            leaf = getattr(leaf, 'dataset', None) or next(iter(getattr(leaf, 'datasets', ())), None)
            if leaf is None:
                return
        dataset._metainfo['category_ids'] = [int(i) for i in leaf.cat_ids]


def _find_start(config: Config, resume: bool | str) -> dict[str, torch.Tensor] | None:
    """Settle ``resume`` and ``load_from``, a file on this disk or None; returns the weights in that file, read once."""
    last = config.get('load_from')
    if resume:
        found = checkpoints_of(config.work_dir) if resume is True else [fetch(str(resume))]
        if not found:
            rank0_print(f'nothing to resume in {config.work_dir}: starting from the beginning')
            resume = False
        else:
            last, content = _read_first(found)
            if not {'optimizer', 'meta'} <= content.keys():
                raise UserError(
                    f'{last} holds weights and no state to resume: start from it with --cfg-options load_from={last}'
                )
            drop_pretrained(config.model)  # the checkpoint has it all
            _take_seed(config, content['meta'].get('seed'))
    if not last:
        config.update(resume=False, load_from=None)
        return None
    if not resume:
        last = str(fetch(last))
        content = read_checkpoint(last)
        if any(k.startswith('backbone.') for k in unwrap_state_dict(content)):
            drop_pretrained(config.model)  # a whole model: nothing need be fetched for what it brings
    for unit, limit in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        done, whole = content.get('meta', {}).get(unit, 0), config.train_cfg.get(limit)
        if resume and whole is not None and done >= whole:
            rank0_print(
                f'{last} is of {unit} {done}, and train_cfg.{limit} is {whole}: nothing is left to train'
            )
    config.update(resume=bool(resume), load_from=last)
    return unwrap_state_dict(content)


def _read_first(found: Sequence[Path]) -> tuple[str, dict]:
    """The first of these that can be read, and what is in it; says which cannot."""
    for i, path in enumerate(found):
        try:
            return str(path), read_checkpoint(path)
        except CheckpointError as error:
            if i + 1 == len(found):
                raise
            rank0_print(f'{error}: going on from {found[i + 1]}, the one before')
    raise AssertionError('there is one')


def _take_seed(config: Config, seed: int | None) -> None:
    """The run that goes on has the seed it began with."""
    before = (config.get('randomness') or {}).get('seed')
    if seed is not None and before != seed:
        if before is not None:
            rank0_print(f'seed {before} -> {seed}, which the run began with')
        config.randomness = dict(config.get('randomness') or {}, seed=seed)


def _keep_previous(config: Config) -> None:
    """mmengine removes what is too many before it writes the next one."""
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('max_keep_ckpts') == 1:
        hook.max_keep_ckpts = 2
        rank0_print(
            'default_hooks.checkpoint.max_keep_ckpts 1 -> 2: the last checkpoint stays until the next is whole'
        )
