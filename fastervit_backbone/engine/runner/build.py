"""What training and evaluation share: a checked config, a runner, the config in the work dir."""

import copy
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from ...evaluation.coco_metric import patch_coco_metric
from ...ops.float32 import run_in_float32
from ...utils.errors import UserError
from ...utils.files import check_folder_writable, replacing
from ...utils.verbosity import is_verbose
from ..config.adaptations import FOR_THE_DATA, FOR_THE_MACHINE, Run, adapt
from ..config.channels import check_channels, check_model
from ..config.checks import check_data, replace_test_data
from ..config.load import load_config
from ..config.write import as_python
from ..console import ConsoleHook, quiet_coco, quiet_logger
from ..load_image import use_one_decoder
from ..processes import from_first_process, join_processes, rank0_print
from .resumable_runner import ResumableRunner


def prepare(
    path: str | Path,
    work_dir: str | Path | None,
    options: Mapping[str, object] | None,
    launcher: str,
    splits: tuple[str, ...],
    test_data: str | Path | None = None,
) -> Config:
    """Load the config of a run, check it against its data, fit it to this machine, and report all changes.

    Only the first of several processes checks the data; all get its result.

    Args:
        path: config file.
        work_dir: folder of the run; None: the config's, or ``work_dirs/<config name>``.
        options: ``--cfg-options``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        splits: of 'train', 'val', 'test', whose data is used; the first one's classes are the model's.
        test_data: folder that replaces a classifier's test data.

    Raises:
        UserError: bad input.
    """
    if not is_verbose():
        quiet_logger(MMLogger.get_current_instance())  # until the run has a log of its own
    config = load_config(path, options)
    config.launcher = launcher
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs') / Path(path).stem)
    check_model(config)
    if test_data is not None:
        replace_test_data(config, str(test_data))
    run = Run(launcher, splits)
    messages = adapt(config, run, FOR_THE_MACHINE)
    join_processes(config, launcher)
    for line in from_first_process(lambda: check_data(config, splits)):
        rank0_print(line)
    check_channels(config)
    check_folder_writable('--work-dir', config.work_dir)
    for line in messages + adapt(config, run, FOR_THE_DATA):
        rank0_print(line)
    return config


def build_runner(config: Config, launcher: str, written_config: Config | None = None) -> Runner:
    """Build mmengine's runner, or the one that the config names (``runner_type='FlexibleRunner'`` for FSDP).

    Args:
        config: of this run.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        written_config: written to the work dir: the config without what applies only to this run; default
            ``config``.

    Raises:
        UserError: a type in the config does not exist.
    """
    use_one_decoder(config.get('default_scope', 'mmengine'))
    if config.get('default_scope') == 'mmdet':
        patch_coco_metric()
        if not is_verbose():
            quiet_coco()
        run_in_float32()
    # with a fixed name, a second run of this process would log to the first one's folder
    (config.get('visualizer') or {}).pop('name', None)
    try:
        runner = RUNNERS.build(config) if 'runner_type' in config else ResumableRunner.from_cfg(config)
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        reason = str(error.args[0]).split('. ')[0]
        raise UserError(f'a type in the config does not exist: {reason}') from error
    if isinstance(runner, ResumableRunner) and not is_verbose():
        runner.register_hook(ConsoleHook())
    if runner.rank == 0:
        write_config(config if written_config is None else written_config, Path(runner.work_dir))
    return runner


def write_config(config: Config, work_dir: Path) -> None:
    """Write a config to the work dir, unless it was read from there, with ``resume=False``."""
    source = config.filename
    path = work_dir / (Path(source).with_suffix('.py').name if source else 'config.py')
    if source and Path(source).resolve() == path.resolve():
        return
    config = copy.deepcopy(config)
    config.resume = False
    with replacing(path) as temporary:
        temporary.write_text(as_python(config), encoding='utf-8')


def build_untrained(model: ConfigDict) -> nn.Module:
    """Build a config's model with initialized weights, and without downloading any.

    Without ``init_weights``, some would be uninitialized memory, such as DINO's level embedding.
    """
    model = copy.deepcopy(model)
    drop_pretrained(model)
    built = MODELS.build(model)
    built.init_weights()
    return built


def drop_pretrained(model: ConfigDict) -> None:
    """Remove, in place, the options that would load pretrained weights of a config's backbone."""
    for key in ('init_cfg', 'pretrained'):
        model.backbone.pop(key, None)


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper for parallel training."""
    return model.module if is_model_wrapper(model) else model
