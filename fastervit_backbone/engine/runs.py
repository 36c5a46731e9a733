"""What training and evaluation share: a checked config, a runner, the run's folder."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from ..checkpoint_io import fetch
from ..errors import UserError
from ..files import check_folder_writable
from .checks import check_channels, fit_classes, fit_label_loading, fit_to_machine
from .coco_eval import use_faster_coco_eval
from .data_checks import check_data
from .options import load_config
from .resumable_runner import ResumableRunner

#: The checkpoint of a run that was asked to stop.
INTERRUPTED = 'interrupted.pth'


def prepare(
    path: str | Path, work_dir: str | Path | None, options: Mapping[str, object] | None, launcher: str, splits: tuple[str, ...]
) -> Config:
    """The config of a run, checked against its data and fitted to this machine; changes are said.

    Raises:
        UserError: bad input.
    """
    config = load_config(path, options)
    for line in check_data(config, splits):
        say(line)
    check_channels(config)
    config.launcher = launcher
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs') / Path(path).stem)
    check_folder_writable('--work-dir', config.work_dir)
    for line in fit_classes(config, splits[0]) + fit_label_loading(config) + fit_to_machine(config, launcher):
        say(line)
    return config


def build_runner(config: Config, launcher: str) -> Runner:
    """mmengine's runner for a config, or the one it names (``runner_type='FlexibleRunner'`` for FSDP).

    Raises:
        UserError: a type in the config does not exist.
    """
    if launcher == 'pytorch' and not torch.cuda.is_available() and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')  # mmengine's own start insists on a CUDA device
    if config.get('default_scope') == 'mmdet':
        use_faster_coco_eval()
    (config.get('visualizer') or {}).pop('name', None)  # or a second run of this process would log to the first one's folder
    try:
        return RUNNERS.build(config) if 'runner_type' in config else ResumableRunner.from_cfg(config)
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        raise UserError(f'a type in the config does not exist: {str(error.args[0]).split(". ")[0]}') from error


def build_untrained(model: ConfigDict) -> nn.Module:
    """A config's model with fresh weights: none is fetched, and none left as the allocator gave it (DINO's level embedding would be)."""
    model = copy.deepcopy(model)
    drop_pretrained(model)
    built = MODELS.build(model)
    built.init_weights()
    return built


def drop_pretrained(model: ConfigDict) -> None:
    """Take out, in place, what would fetch weights for a config's backbone."""
    for key in ('init_cfg', 'pretrained'):
        model.backbone.pop(key, None)


def bare(model: nn.Module) -> nn.Module:
    """The model within what makes it parallel."""
    return model.module if is_model_wrapper(model) else model


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """Checkpoints that a run can go on from, the one noted as last before others, then the newest first; wherever the folder has moved."""
    work_dir = Path(work_dir)
    found = [p for pattern in ('epoch_*.pth', 'iter_*.pth', INTERRUPTED) for p in work_dir.glob(pattern)]
    found.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    note = work_dir / 'last_checkpoint'
    noted = Path(note.read_text().strip()) if note.is_file() else Path()  # empty where the run was killed while writing it
    if noted.name:
        noted = noted if noted.is_file() else work_dir / noted.name
        found.sort(key=lambda p: p.name != noted.name)
        if noted.is_file() and noted not in found:  # of another name or place
            found.insert(0, noted)
    return found


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The file behind a path, a URL, or a work dir (its last checkpoint).

    Raises:
        UserError: a folder without a checkpoint, no such file, or it cannot be downloaded.
    """
    path = Path(checkpoint)
    if path.is_dir():
        found = checkpoints_of(path)
        if not found:
            raise UserError(f'{path} is a folder without a checkpoint: train first, or name a file')
        path = found[0]
    return fetch(path if path.exists() else str(checkpoint))


def say(message: str) -> None:
    """Print a line, once however many processes there are."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))) == 0:
        print(message, flush=True)
