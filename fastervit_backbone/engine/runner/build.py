"""What training and evaluation share: a checked config, a runner, the run's folder."""

import copy
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from ...evaluation.coco_metric import patch_coco_metric
from ...ops.float32 import run_in_float32
from ...utils.errors import UserError
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
from ..processes import from_first_process, join_processes, rank0_print
from .resumable_runner import ResumableRunner


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
