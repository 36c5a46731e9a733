"""Fit a config to the machine that runs it."""

from collections.abc import Mapping

import torch
from mmengine.config import Config, ConfigDict

from ...utils.errors import UserError
from ..processes import world_size


def fit_to_machine(config: Config, launcher: str) -> list[str]:
    """Change what cannot run here: NCCL without a GPU, SyncBN in a single process or on the CPU.

    Args:
        config: changed in place.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        a message if SyncBN was replaced.

    Raises:
        UserError: several processes on the CPU with a launcher other than 'pytorch'.
    """
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
