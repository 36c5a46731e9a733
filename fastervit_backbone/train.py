"""Training behind fastervit train."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from .checkpoints.data_meta import data_meta
from .checkpoints.published import check_fit
from .checkpoints.safe_loading import safe_loading
from .engine.config.auto_scale_lr import scale_learning_rate
from .engine.config.checks import check_batch
from .engine.config.mixed_precision import amp_options
from .engine.console import restore_screen
from .engine.hooks.accumulated_gradients import AccumulatedGradientsHook
from .engine.hooks.look_before_training import LookBeforeTrainingHook
from .engine.hooks.non_finite_guard import NonFiniteGuardHook
from .engine.hooks.save_on_signal import SaveOnSignalHook
from .engine.hooks.unreadable_images import UnreadableImageHook
from .engine.processes import world_size
from .engine.runner.build import build_runner, prepare, unwrap_model
from .engine.runner.readable_errors import readable_errors
from .engine.runner.resumable_runner import ResumableRunner
from .engine.runner.start import adapt_weights, find_start
from .engine.runner.work_dir import locked
from .engine.runner.workers import end_workers
from .models.compiled import check_compiler, compile_backbone
from .utils.errors import UserError


def train(
    config_path: str | Path,
    *,
    work_dir: str | Path | None = None,
    amp: bool = False,
    compile: bool = False,
    resume: bool | str | Path = False,
    seed: int | None = None,
    auto_scale_lr: bool = True,
    max_unreadable: int = 10,
    max_non_finite: int = 5,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
) -> nn.Module:
    """Train a model from a config.

    Args:
        config_path: config file.
        work_dir: folder of checkpoints and logs; default ``work_dirs/<config name>``.
        amp: mixed precision on a CUDA device: bfloat16 if supported, else float16 with loss scaling.
        compile: compile the backbone (:func:`~fastervit_backbone.models.compiled.compile_in_place`).
        resume: True or 'auto': resume from the work dir's last checkpoint, if any; a path: from that file.
        seed: random seed.
        auto_scale_lr: scale the learning rate linearly to the actual batch (batch size x processes).
        max_unreadable: number of unreadable images that are replaced before the run stops.
        max_non_finite: number of consecutive steps with a non-finite loss or gradient that are skipped before
            the run stops.
        options: ``--cfg-options``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        the trained model.

    Raises:
        UserError: bad input. Configs, data and files are checked before anything is built or written.
        Interrupted: the run received SIGTERM or Ctrl-C; it wrote a checkpoint.
    """
    options, resume = dict(options or {}), True if resume == 'auto' else resume
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    _check_arguments(device, amp, compile, max_unreadable, max_non_finite)
    if amp:
        options = {f'optim_wrapper.{key}': value for key, value in amp_options().items()} | options
    config = prepare(config_path, work_dir, options, launcher, splits=('train', 'val'))
    if seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=seed)
    with locked(config.work_dir):
        given_config = copy.deepcopy(config)
        weights, meta = find_start(config, resume or config.get('resume', False))
        if config.get('resume') and given_config.get('resume'):
            # a later run need not find the checkpoint that this one resumes from
            given_config.load_from = None
        if config.get('randomness') is not None:
            given_config.randomness = config.randomness
        scale_learning_rate(config, auto_scale_lr, world_size(launcher))
        check_batch(config)
        runner = build_runner(config, launcher, given_config)
        if compile:
            compile_backbone(runner.model, device)
        if weights is not None:
            _check_weights(runner, config, weights, meta)
        del weights  # the runner reads the file itself: do not keep a second copy during training
        save_on_signal = SaveOnSignalHook()
        guards = (UnreadableImageHook(max_unreadable), NonFiniteGuardHook(max_non_finite))
        for hook in (_CategoryIdsHook(), LookBeforeTrainingHook(), *guards, save_on_signal):
            runner.register_hook(hook)
        if isinstance(runner, ResumableRunner):
            runner.register_hook(AccumulatedGradientsHook())
        try:
            with safe_loading(), readable_errors(config):
                return runner.train()
        finally:
            save_on_signal.restore()
            restore_screen(runner)
            end_workers(runner)


def _check_weights(runner: Runner, config: Config, weights: dict[str, torch.Tensor], meta: object) -> None:
    """Raise an error unless the weights fit model and data; tell the runner how to adapt them."""
    names = data_meta(dict(meta=meta), config.load_from).get('classes')
    weights = adapt_weights(runner, config, weights, names)
    if isinstance(runner.model, nn.Module):  # FlexibleRunner builds the model later
        check_fit(unwrap_model(runner.model), weights, config.load_from, partial=not config.resume, meta=meta)


def _check_arguments(device: str, amp: bool, compile: bool, max_unreadable: int, max_non_finite: int) -> None:
    if amp and device == 'cpu':
        raise UserError('--amp needs a CUDA device, but torch finds none: omit --amp')
    if compile:
        check_compiler(device)
    if max_unreadable < 0:
        raise UserError(f'--max-unreadable {max_unreadable}: must be at least 0')
    if max_non_finite < 1:
        raise UserError(f'--max-non-finite {max_non_finite}: must be at least 1')


class _CategoryIdsHook(Hook):
    """Stores the data set's category ids with its classes in every checkpoint, for prediction."""

    def before_run(self, runner: Runner) -> None:
        dataset = leaf = runner.train_dataloader.dataset
        while not hasattr(leaf, 'cat_ids'):  # unwrap
            leaf = getattr(leaf, 'dataset', None) or next(iter(getattr(leaf, 'datasets', ())), None)
            if leaf is None:
                return
        dataset._metainfo['category_ids'] = [int(i) for i in leaf.cat_ids]
