"""Training behind fastervit train."""

import copy
from typing import Any

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
from .engine.hooks.broadcast_buffers import BroadcastBuffersHook
from .engine.hooks.channels_last import ChannelsLastHook, PlainCheckpointHook
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
from .options import TrainOptions, resolve
from .options.field import Place
from .utils.errors import UserError


def train(source: Place | TrainOptions | None = None, /, **options: Any) -> nn.Module:
    """Train a model from a config.

    Args:
        source: config file, or all options.
        options: of :class:`~fastervit_backbone.options.TrainOptions`: ``work_dir``, ``amp``, ``resume``, ...

    Returns:
        the trained model.

    Raises:
        TypeError: an option that does not exist.
        UserError: bad input. Configs, data and files are checked before anything is built or written.
        Interrupted: the run received SIGTERM or Ctrl-C; it wrote a checkpoint.
    """
    o = resolve(TrainOptions, source, options)
    changes, resume = dict(o.options or {}), True if o.resume == 'auto' else o.resume
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    _check_arguments(device, o)
    if o.amp:
        amp = amp_options()
        if amp is None:
            raise UserError(
                '--amp: this CPU does not compute in bfloat16, and torch finds no GPU: omit --amp'
            )
        changes = {f'optim_wrapper.{key}': value for key, value in amp.items()} | changes
    config = prepare(o.config, o.work_dir, changes, o.launcher, splits=('train', 'val'))
    if o.seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=o.seed)
    with locked(config.work_dir):
        given_config = copy.deepcopy(config)
        weights, meta = find_start(config, resume or config.get('resume', False))
        if config.get('resume') and given_config.get('resume'):
            # a later run need not find the checkpoint that this one resumes from
            given_config.load_from = None
        if config.get('randomness') is not None:
            given_config.randomness = config.randomness
        scale_learning_rate(config, o.auto_scale_lr, world_size(o.launcher))
        check_batch(config)
        runner = build_runner(config, o.launcher, given_config)
        if o.compile:
            compile_backbone(runner.model, device)
        if weights is not None:
            _check_weights(runner, config, weights, meta)
        del weights  # the runner reads the file itself: do not keep a second copy during training
        save_on_signal = SaveOnSignalHook()
        guards = (UnreadableImageHook(o.max_unreadable), NonFiniteGuardHook(o.max_non_finite))
        common = (_CategoryIdsHook(), LookBeforeTrainingHook(), BroadcastBuffersHook())
        for hook in (*common, *guards, save_on_signal):
            runner.register_hook(hook)
        if isinstance(runner, ResumableRunner):
            runner.register_hook(AccumulatedGradientsHook())
        if device == 'cpu' and config.optim_wrapper.get('type') == 'BFloat16OptimWrapper':
            runner.register_hook(ChannelsLastHook())
            runner.register_hook(PlainCheckpointHook())
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


def _check_arguments(device: str, o: TrainOptions) -> None:
    if o.compile:
        check_compiler(device)
    if o.max_unreadable < 0:
        raise UserError(f'--max-unreadable {o.max_unreadable}: must be at least 0')
    if o.max_non_finite < 1:
        raise UserError(f'--max-non-finite {o.max_non_finite}: must be at least 1')


class _CategoryIdsHook(Hook):
    """Stores the data set's category ids with its classes in every checkpoint, for prediction."""

    def before_run(self, runner: Runner) -> None:
        dataset = leaf = runner.train_dataloader.dataset
        while not hasattr(leaf, 'cat_ids'):  # unwrap
            leaf = getattr(leaf, 'dataset', None) or next(iter(getattr(leaf, 'datasets', ())), None)
            if leaf is None:
                return
        dataset._metainfo['category_ids'] = [int(i) for i in leaf.cat_ids]
