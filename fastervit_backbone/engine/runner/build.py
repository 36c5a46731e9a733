"""What training and evaluation share: a checked config, a runner, the run's folder."""

import copy
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_rank, get_world_size, init_dist
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from ...checkpoints.io import fetch
from ...evaluation.coco_metric import patch_coco_metric
from ...ops.float32 import run_in_float32
from ...utils.errors import ElsewhereError, UserError
from ...utils.files import check_folder_writable, replacing
from ..config.adapt import (
    check_channels,
    check_model,
    fit_classes,
    fit_label_loading,
    fit_norm_eval,
    fit_to_machine,
)
from ..config.load import load_config
from ..config.validate import check_data
from .resumable_runner import ResumableRunner

#: The checkpoint of a run that was asked to stop.
INTERRUPTED = 'interrupted.pth'


def prepare(
    path: str | Path,
    work_dir: str | Path | None,
    options: Mapping[str, object] | None,
    launcher: str,
    splits: tuple[str, ...],
) -> Config:
    """The config of a run, checked against its data and fitted to this machine; changes are said.

    Of several processes the first one looks at the data, and all hear what it found.

    Raises:
        UserError: bad input.
    """
    config = load_config(path, options)
    config.launcher = launcher
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs') / Path(path).stem)
    check_model(config)
    said = fit_to_machine(config, launcher)
    join_processes(config, launcher)
    for line in from_first_process(lambda: check_data(config, splits)):
        rank0_print(line)
    check_channels(config)
    check_folder_writable('--work-dir', config.work_dir)
    said += fit_classes(config, splits[0]) + fit_label_loading(config)
    for line in said + (fit_norm_eval(config) if 'train' in splits else []):
        rank0_print(line)
    return config


def join_processes(config: Config, launcher: str) -> None:
    """Make the process group of a run, as mmengine's runner would later."""
    if launcher == 'none' or torch.distributed.is_initialized():
        return
    if launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')  # mmengine's own start insists on a CUDA device
    else:
        init_dist(launcher, **(config.get('env_cfg') or {}).get('dist_cfg', {}))


def from_first_process(work: Callable[[], list[str]]) -> list[str]:
    """Do ``work`` in the first process; every process returns its lines, or raises its error.

    Raises:
        UserError: in all processes, where the first raised one; only the first says it.
    """
    if get_world_size() == 1:
        return work()
    # a group of its own: the others may wait longer than a step of training may take
    group = torch.distributed.new_group(backend='gloo', timeout=timedelta(hours=4))
    verdict: list[object] = [None]
    failure = None
    if get_rank() == 0:
        try:
            verdict = [work()]
        except BaseException as error:
            failure, verdict = error, [f'{type(error).__name__}: {error}']
    try:
        torch.distributed.broadcast_object_list(verdict, group=group)
    finally:
        torch.distributed.destroy_process_group(group)
    if failure is not None:
        raise failure
    if isinstance(verdict[0], str):
        raise ElsewhereError(verdict[0])
    return verdict[0]


def build_runner(config: Config, launcher: str, asked: Config | None = None) -> Runner:
    """mmengine's runner for a config, or the one it names (``runner_type='FlexibleRunner'`` for FSDP).

    Args:
        config: of this run.
        launcher: as of the tools.
        asked: what to write into the work dir: the config without what holds for this run alone. None: ``config``.

    Raises:
        UserError: a type in the config does not exist.
    """
    if config.get('default_scope') == 'mmdet':
        patch_coco_metric()
        run_in_float32()
    (config.get('visualizer') or {}).pop(
        'name', None
    )  # or a second run of this process would log to the first one's folder
    try:
        runner = RUNNERS.build(config) if 'runner_type' in config else ResumableRunner.from_cfg(config)
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        raise UserError(
            f'a type in the config does not exist: {str(error.args[0]).split(". ")[0]}'
        ) from error
    if runner.rank == 0:
        write_config(config if asked is None else asked, Path(runner.work_dir))
    return runner


def write_config(config: Config, work_dir: Path) -> None:
    """Leave a config in the work dir, unless it is the one that was given. It resumes nothing: that is asked for anew every time."""
    given = config.filename
    path = work_dir / (Path(given).with_suffix('.py').name if given else 'config.py')
    if given is not None and Path(given).resolve() == path.resolve():
        return
    config = copy.deepcopy(config)
    config.resume = False
    with replacing(path) as temporary:
        temporary.write_text(config.pretty_text)


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


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model within what makes it parallel."""
    return model.module if is_model_wrapper(model) else model


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """Checkpoints that a run can go on from, the one noted as last before others, then the newest first; wherever the folder has moved."""
    work_dir = Path(work_dir)
    found = [p for pattern in ('epoch_*.pth', 'iter_*.pth', INTERRUPTED) for p in work_dir.glob(pattern)]
    found.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    note = work_dir / 'last_checkpoint'
    noted = (
        Path(note.read_text().strip()) if note.is_file() else Path()
    )  # empty where the run was killed while writing it
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


def rank0_print(message: str) -> None:
    """Print a line, once however many processes there are."""
    if process_rank() == 0:
        print(message, flush=True)


def process_rank() -> int:
    """This process's rank by its launcher's variables, before any process group is there; 0 without a launcher."""
    # mpirun within a SLURM job inherits the job's variables, which are the same for all
    for name in ('RANK', 'OMPI_COMM_WORLD_RANK', 'SLURM_PROCID'):
        if name in os.environ:
            return int(os.environ[name])
    return 0
