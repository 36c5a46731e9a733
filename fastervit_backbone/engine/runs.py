"""Training and evaluation behind tools/train.py and tools/test.py, on mmengine's Runner."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..checkpoint import check_fit
from ..checkpoint_io import fetch, read_checkpoint, replacing, safe_loading, unwrap_state_dict
from ..errors import UserError
from .checks import check_channels, check_data, fit_classes, fit_to_machine, world_size
from .options import load_config
from .pictures import write_overview


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
    config = _prepare(config_path, work_dir, options, launcher, splits=('train', 'val'))
    if seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=seed)
    weights = _find_start(config, resume or config.get('resume', False))
    _scale_learning_rate(config, auto_scale_lr, world_size(launcher))
    runner = _build_runner(config, launcher)
    if weights is not None:
        check_fit(_bare(runner.model), weights, config.load_from, partial=not config.resume)
    del weights  # mmengine reads its own: do not hold a second copy while it trains
    with safe_loading():
        return runner.train()


def test(
    config_path: str | Path,
    checkpoint: str | Path,
    *,
    work_dir: str | Path | None = None,
    show_dir: str | Path | None = None,
    out: str | Path | None = None,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
) -> dict[str, float]:
    """Evaluate a checkpoint on a config's test data.

    Args:
        config_path: the config.
        checkpoint: a file, or a work dir (its last checkpoint).
        work_dir: where the log goes; default ``work_dirs/<config name>``.
        show_dir: write every image with its ground truth and prediction here, and an overview of the first ones.
        out: write predictions (``.pkl``) or metrics (``.json``) here.
        options: ``--cfg-options``.
        launcher: as of :func:`train`.

    Returns:
        metric names and values.

    Raises:
        UserError: bad input, or a checkpoint that does not fit the model.
    """
    config = _prepare(config_path, work_dir, options, launcher, splits=('test',))
    out = None if out is None else Path(out)
    if out is not None and out.suffix not in ('.pkl', '.json'):
        raise UserError(f'--out {out}: the name must end in .pkl (predictions) or .json (metrics)')
    if out is not None:
        _check_writable('--out', out.parent)
    if show_dir is not None:
        _check_writable('--show-dir', show_dir)
    path = Path(checkpoint)
    if path.is_dir():
        last = _last_checkpoint(path)
        if last is None:
            raise UserError(f'{path} is a folder without a checkpoint: train first, or name a file')
        path = Path(last)
    path = fetch(path if path.exists() else str(checkpoint))
    weights = unwrap_state_dict(read_checkpoint(path))
    config.load_from = str(path)
    if show_dir is not None:
        show_dir = Path(os.path.abspath(show_dir))
        config.default_hooks.setdefault('visualization', dict(type='DetVisualizationHook'))
        # absolute: mmdet joins it to its own run folder otherwise
        config.default_hooks.visualization.update(draw=True, test_out_dir=str(show_dir))
    runner = _build_runner(config, launcher)
    check_fit(_bare(runner.model), weights, str(path))
    del weights
    if out is not None and out.suffix == '.pkl':
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=str(out)))
    with safe_loading():
        metrics = runner.test()
    if runner.rank == 0:
        if out is not None and out.suffix == '.json':
            record = dict(config=str(config_path), checkpoint=str(path), metrics={k: float(v) for k, v in metrics.items()})
            with replacing(out) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + '\n')
        for line in _summary(metrics, show_dir, out):
            _say(line)
    return metrics


def _prepare(
    path: str | Path, work_dir: str | Path | None, options: Mapping[str, object] | None, launcher: str, splits: tuple[str, ...]
) -> Config:
    config = load_config(path, options)
    check_data(config, splits)
    check_channels(config)
    config.launcher = launcher
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs') / Path(path).stem)
    _check_writable('--work-dir', config.work_dir)
    for line in fit_classes(config, splits[0]) + fit_to_machine(config, launcher):
        _say(line)
    return config


def _build_runner(config: Config, launcher: str) -> Runner:
    if launcher == 'pytorch' and not torch.cuda.is_available() and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')  # mmengine's own start insists on a CUDA device
    try:
        return Runner.from_cfg(config)
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        raise UserError(f'a type in the config does not exist: {str(error.args[0]).split(". ")[0]}') from error


def _check_writable(option: str, folder: str | Path) -> None:
    """Raise UserError unless ``folder`` is, or can become, a folder that this process may write."""
    place = Path(os.path.abspath(folder))
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f'{option} {folder}: cannot write to {place}' + ('' if place.is_dir() else ', which is a file'))


def _bare(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _find_start(config: Config, resume: bool | str) -> dict[str, torch.Tensor] | None:
    """Settle ``resume`` and ``load_from``, a file on this disk or None; returns the weights in that file, read once."""
    last = config.get('load_from')
    if resume:
        last = _last_checkpoint(config.work_dir) if resume is True else str(resume)
        if last is None:
            _say(f'nothing to resume in {config.work_dir}: starting from the beginning')
            last, resume = config.get('load_from'), False
        else:
            config.model.backbone.pop('init_cfg', None)  # the checkpoint has it all
    if not last:
        config.update(resume=False, load_from=None)
        return None
    last = str(fetch(last))
    content = read_checkpoint(last)
    epoch, epochs = content.get('meta', {}).get('epoch', 0), config.train_cfg.get('max_epochs')
    if resume and epochs is not None and epoch >= epochs:
        _say(f'{last} is of epoch {epoch}, and train_cfg.max_epochs is {epochs}: nothing is left to train')
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
        _say(f'learning rate {lr:g} is for batch {base}; this run has {real}: {lr:g} -> {lr * real / base:g} (--no-auto-scale-lr keeps it)')
    else:
        _say(f'learning rate {lr:g} kept, although it is for batch {base} and this run has {real}')


def _last_checkpoint(work_dir: str | Path) -> str | None:
    """What mmengine noted as last, wherever the folder has moved since."""
    note = Path(work_dir) / 'last_checkpoint'
    if not note.is_file():
        return None
    noted = Path(note.read_text().strip())
    if not noted.name:  # killed while writing it
        raise UserError(f'{note} is empty: name the checkpoint itself')
    return str(noted if noted.is_file() else note.with_name(noted.name))


def _summary(metrics: Mapping[str, float], show_dir: Path | None, out: Path | None) -> list[str]:
    names = {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP', 'mIoU': 'mIoU'}
    lines = [', '.join(f'{name} {metrics[key]:.3f}' for key, name in names.items() if key in metrics)]
    if not metrics:
        lines = ['no detections in any image, so there is nothing to score: AP 0']
    if show_dir is not None:
        overview = write_overview(show_dir)
        lines.append(
            f'pictures (ground truth left, prediction right): {show_dir}' + (f', the first ones together: {overview}' if overview else '')
        )
    if out is not None:
        lines.append(f'written: {out}')
    return [line for line in lines if line]


def _say(message: str) -> None:
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))) == 0:
        print(message, flush=True)
