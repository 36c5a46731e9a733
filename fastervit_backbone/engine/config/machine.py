"""Fit a config to the machine that runs it."""

from collections.abc import Mapping

import torch
from mmengine.config import Config, ConfigDict

from ...utils.errors import UserError
from ..processes import world_size
from .validate import as_list


def fit_to_machine(config: Config, launcher: str) -> list[str]:
    """Change what cannot run here: NCCL without a GPU, SyncBN in a single process or on the CPU.

    mmdet's CocoPanopticMetric needs panopticapi, which no registry has: ours computes the same without it.

    Args:
        config: changed in place.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        a message if SyncBN was replaced.

    Raises:
        UserError: several processes on the CPU with a launcher other than 'pytorch'.
    """
    _replace_panoptic_metric(config)
    has_cuda, processes = torch.cuda.is_available(), world_size(launcher)
    if launcher != 'none' and not has_cuda:
        _use_gloo(config, launcher)
    if has_cuda and processes > 1:
        return []
    count = _replace_sync_bn(config.model)
    where = 'in a single process' if has_cuda else 'on the CPU'
    return [f'SyncBN -> BN in {count} places {where}: statistics are those of one process'] if count else []


def _use_gloo(config: Config, launcher: str) -> None:
    if launcher != 'pytorch':
        raise UserError(
            f'--launcher {launcher} needs CUDA devices, and torch sees none: use torchrun and --launcher '
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


#: Arguments of PanopticMetric.
_OF_METRIC = ('ann_file', 'seg_prefix', 'classwise', 'prefix', 'collect_device')


def _replace_panoptic_metric(config: Config) -> None:
    for split in ('val', 'test'):
        for evaluator in as_list(config.get(f'{split}_evaluator')):
            if evaluator.get('type') in ('CocoPanopticMetric', 'mmdet.CocoPanopticMetric'):
                kept = {k: v for k, v in evaluator.items() if k in _OF_METRIC}
                others = {k for k, v in evaluator.items() if v and k not in (*_OF_METRIC, 'type', 'nproc')}
                if others or not {'ann_file', 'seg_prefix'} <= kept.keys():
                    continue  # only mmdet's writes files for a test server, or reads from elsewhere
                evaluator.clear()
                evaluator.update(type='PanopticMetric', **kept)


def _replace_sync_bn(node: object) -> int:
    """Replace every SyncBN in a part of a config, in place; return how many there were."""
    if isinstance(node, list | tuple):
        return sum(map(_replace_sync_bn, node))
    if not isinstance(node, Mapping):
        return 0
    is_sync_bn = node.get('type') == 'SyncBN'
    if is_sync_bn:
        node['type'] = 'BN'
    return is_sync_bn + sum(map(_replace_sync_bn, node.values()))
