"""What a config needs here: changes for this machine, then for its data; one list each, in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from mmengine.config import Config, ConfigDict

from ...ops import stand_in
from ...utils.bfloat16 import computes_in_bfloat16
from ...utils.errors import UserError
from ..processes import world_size
from .auto_scale_lr import count_in_steps
from .classes import fit_classes, fit_label_loading
from .reading import as_list


@dataclass(frozen=True)
class Run:
    """What a config is adapted to.

    Attributes:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        splits: of 'train', 'val', 'test', whose data is used; the first one's classes are the model's.
    """

    launcher: str = 'none'
    splits: tuple[str, ...] = ('train', 'val')


def adapt(config: Config, run: Run, adaptations: 'tuple[Adaptation, ...]') -> list[str]:
    """Apply adaptations to a config, in place; return their messages for the user."""
    return [line for change in adaptations for line in change(config, run)]


def fit_to_machine(config: Config, launcher: str) -> list[str]:
    """Change what cannot run here, in place; return a message for each change.

    Raises:
        UserError: several processes on the CPU with a launcher other than 'pytorch'.
    """
    return adapt(config, Run(launcher), FOR_THE_MACHINE)


def _name_operators(config: Config, run: Run) -> list[str]:
    return ['operators: torchvision, as mmcv has no compiled ones'] if stand_in.is_active() else []


def _use_gloo(config: Config, run: Run) -> list[str]:
    """Replace NCCL where there is no GPU."""
    if run.launcher == 'none' or torch.cuda.is_available():
        return []
    if run.launcher != 'pytorch':
        raise UserError(
            f'--launcher {run.launcher} needs CUDA devices, and torch sees none: use torchrun and --launcher '
            'pytorch'
        )
    config.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict())['backend'] = 'gloo'
    # mmengine's default wrapper passes device_ids, which modules on the CPU reject
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False),
    )
    config.setdefault('model_wrapper_cfg', wrapper)
    return []


#: Arguments of PanopticMetric.
_OF_METRIC = ('ann_file', 'seg_prefix', 'classwise', 'prefix', 'collect_device')


def _replace_panoptic_metric(config: Config, run: Run) -> list[str]:
    """mmdet's CocoPanopticMetric needs panopticapi, which no registry has: ours computes the same."""
    for split in ('val', 'test'):
        for evaluator in as_list(config.get(f'{split}_evaluator')):
            if evaluator.get('type') in ('CocoPanopticMetric', 'mmdet.CocoPanopticMetric'):
                kept = {k: v for k, v in evaluator.items() if k in _OF_METRIC}
                others = {k for k, v in evaluator.items() if v and k not in (*_OF_METRIC, 'type', 'nproc')}
                if others or not {'ann_file', 'seg_prefix'} <= kept.keys():
                    continue  # only mmdet's writes files for a test server, or reads from elsewhere
                evaluator.clear()
                evaluator.update(type='PanopticMetric', **kept)
    return []


def _replace_sync_bn(config: Config, run: Run) -> list[str]:
    """Replace SyncBN in a single process and on the CPU."""
    has_cuda = torch.cuda.is_available()
    if has_cuda and world_size(run.launcher) > 1:
        return []
    count = _to_batch_norm(config.model)
    where = 'in a single process' if has_cuda else 'on the CPU'
    return [f'SyncBN -> BN in {count} places {where}: statistics are those of one process'] if count else []


def _to_batch_norm(node: object) -> int:
    """Replace every SyncBN in a part of a config, in place; return how many there were."""
    if isinstance(node, list | tuple):
        return sum(map(_to_batch_norm, node))
    if not isinstance(node, Mapping):
        return 0
    is_sync_bn = node.get('type') == 'SyncBN'
    if is_sync_bn:
        node['type'] = 'BN'
    return is_sync_bn + sum(map(_to_batch_norm, node.values()))


def fit_norm_eval(config: Config) -> list[str]:
    """Let BatchNorm learn its statistics if the backbone starts from scratch.

    The initial ones, mean 0 and variance 1, do not normalize anything.

    Args:
        config: changed in place.

    Returns:
        a message if the config was changed.
    """
    backbone = config.model.get('backbone') or {}
    is_pretrained = config.get('load_from') or any(
        part.get(key) for part in (backbone, config.model) for key in ('init_cfg', 'pretrained')
    )
    if is_pretrained or not backbone.get('norm_eval'):
        return []
    backbone.norm_eval = False
    reason = 'without pretrained weights, BatchNorm has to learn its statistics'
    return [f'model.backbone.norm_eval True -> False: {reason}']


def _fit_classes(config: Config, run: Run) -> list[str]:
    return fit_classes(config, run.splits[0])


def _fit_label_loading(config: Config, run: Run) -> list[str]:
    return fit_label_loading(config)


def _learn_statistics(config: Config, run: Run) -> list[str]:
    return fit_norm_eval(config) if 'train' in run.splits else []


def _count_in_steps(config: Config, run: Run) -> list[str]:
    return count_in_steps(config) if 'train' in run.splits else []


def _keep_two_checkpoints(config: Config, run: Run) -> list[str]:
    """Keep at least two checkpoints: mmengine removes old ones before it writes the next."""
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    if 'train' not in run.splits or hook.get('max_keep_ckpts') != 1:
        return []
    hook['max_keep_ckpts'] = 2
    return [
        'default_hooks.checkpoint.max_keep_ckpts 1 -> 2: '
        'the last checkpoint is kept until the next one is complete'
    ]


def _fit_precision(config: Config, run: Run) -> list[str]:
    """Train in a precision that this machine has, where the config was written on another one."""
    wrapper = config.get('optim_wrapper') or {}
    kind, device = wrapper.get('type'), 'cuda' if torch.cuda.is_available() else 'cpu'
    is_bfloat16 = kind == 'BFloat16OptimWrapper' or (kind == 'AmpOptimWrapper' and device == 'cpu')
    if 'train' not in run.splits or not is_bfloat16:
        return []
    for key in ('dtype', 'loss_scale', 'use_fsdp'):
        wrapper.pop(key, None)
    if computes_in_bfloat16(device):
        wrapper['type'] = 'BFloat16OptimWrapper'
        return ['precision: bfloat16 on the CPU'] if kind == 'AmpOptimWrapper' else []
    wrapper['type'] = 'OptimWrapper'
    return [
        f'precision: float32, as this {"GPU" if device == "cuda" else "CPU"} does not compute in bfloat16'
    ]


Adaptation = Callable[[Config, Run], list[str]]
#: Before the processes of a run know each other.
FOR_THE_MACHINE: tuple[Adaptation, ...] = (
    _name_operators,
    _replace_panoptic_metric,
    _use_gloo,
    _replace_sync_bn,
    _fit_precision,
)
#: Once the data is checked.
FOR_THE_DATA: tuple[Adaptation, ...] = (
    _fit_classes,
    _fit_label_loading,
    _learn_statistics,
    _keep_two_checkpoints,
    _count_in_steps,
)
