"""Training behind tools/train.py."""

from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..checkpoint import check_fit
from ..checkpoint_io import fetch, read_checkpoint, safe_loading, unwrap_state_dict
from ..errors import UserError
from .checks import check_batch, world_size
from .runs import bare, build_runner, drop_pretrained, last_checkpoint, prepare, say


def train(
    config_path: str | Path,
    *,
    work_dir: str | Path | None = None,
    amp: bool = False,
    resume: bool | str = False,
    seed: int | None = None,
    auto_scale_lr: bool = True,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
) -> nn.Module:
    """Train as a config says.

    Args:
        config_path: the config.
        work_dir: where checkpoints and logs go; default ``work_dirs/<config name>``.
        amp: mixed precision (float16 with loss scaling); needs a CUDA device.
        resume: True goes on from the last checkpoint in ``work_dir`` (from the start where there is none), a path from that one.
        seed: of everything random.
        auto_scale_lr: scale the learning rate linearly to the real batch (batch size x processes).
        options: ``--cfg-options``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        the trained model.

    Raises:
        UserError: bad input. Configs, data and files are checked before anything is built or written.
    """
    options = dict(options or {})
    if amp:
        if not torch.cuda.is_available():
            raise UserError('--amp needs a CUDA device, and torch sees none here: leave it out')
        options = {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'} | options
    config = prepare(config_path, work_dir, options, launcher, splits=('train', 'val'))
    if seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=seed)
    weights = _find_start(config, resume or config.get('resume', False))
    _scale_learning_rate(config, auto_scale_lr, world_size(launcher))
    check_batch(config)
    runner = build_runner(config, launcher)
    if weights is not None and isinstance(runner.model, nn.Module):  # not yet with mmengine's FlexibleRunner
        check_fit(bare(runner.model), weights, config.load_from, partial=not config.resume)
    del weights  # mmengine reads its own: do not hold a second copy while it trains
    runner.register_hook(_KeepCategoryIds())
    try:
        with safe_loading():
            return runner.train()
    except URLError as error:  # mmdet's and mmseg's own backbones fetch theirs when training starts
        raise UserError(
            f'pretrained weights cannot be fetched ({error.reason}): connect to the network, or start from nothing with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error


class _KeepCategoryIds(Hook):
    """Notes the data set's own category ids with its classes, which go into every checkpoint: predictions carry them."""

    def before_train(self, runner: Runner) -> None:
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
        last = last_checkpoint(config.work_dir) if resume is True else str(resume)
        if last is None:
            say(f'nothing to resume in {config.work_dir}: starting from the beginning')
            last, resume = config.get('load_from'), False
        else:
            drop_pretrained(config.model)  # the checkpoint has it all
    if not last:
        config.update(resume=False, load_from=None)
        return None
    last = str(fetch(last))
    content = read_checkpoint(last)
    for unit, limit in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        done, whole = content.get('meta', {}).get(unit, 0), config.train_cfg.get(limit)
        if resume and whole is not None and done >= whole:
            say(f'{last} is of {unit} {done}, and train_cfg.{limit} is {whole}: nothing is left to train')
    config.update(resume=bool(resume), load_from=last)
    return unwrap_state_dict(content)


def _scale_learning_rate(config: Config, enabled: bool, processes: int) -> None:
    scaling = config.setdefault('auto_scale_lr', {})
    base, lr = scaling.get('base_batch_size'), config.optim_wrapper.optimizer.get('lr')
    batch = config.train_dataloader.batch_size
    if not isinstance(batch, int) or batch < 1:
        raise UserError(f'train_dataloader.batch_size must be a whole number from 1, got {batch!r}')
    if lr is not None and not isinstance(lr, int | float):
        raise UserError(f'optim_wrapper.optimizer.lr must be a number, got {lr!r}')
    real = batch * processes
    scaling['enable'] = enabled and base is not None
    if base is None or lr is None or real == base:
        return
    if enabled:
        say(f'learning rate {lr:g} is for batch {base}; this run has {real}: {lr:g} -> {lr * real / base:g} (--no-auto-scale-lr keeps it)')
    else:
        say(f'learning rate {lr:g} kept, although it is for batch {base} and this run has {real}')
    iterations = config.train_cfg.get('max_iters')
    if iterations is not None:
        say(
            f'{iterations} iterations of {real} images see {real / base:.3g} times what the recipe sees with {base}: '
            f'for as many, set train_cfg.max_iters={round(iterations * base / real)} and the schedule to match'
        )
