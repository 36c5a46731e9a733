"""The processes of one run: their number, their ranks, and results shared by the first one."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size, init_dist

from ..utils.errors import OtherProcessError, UserError
from ..utils.printable import printable
from ..utils.torchrun import started_by_torchrun

T = TypeVar('T')

#: Environment variable in which a launcher states the number of processes.
_WORLD_SIZE = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}


def world_size(launcher: str) -> int:
    """Read the number of processes from the environment of a launcher ('none', 'pytorch', 'slurm' or 'mpi').

    Raises:
        UserError: the launcher's variable is not set.
    """
    if launcher == 'none':
        return 1
    variable = _WORLD_SIZE[launcher]
    if variable not in os.environ:
        raise UserError(
            f'--launcher {launcher} needs the environment variable {variable}: start through that launcher'
        )
    return int(os.environ[variable])


def join_processes(config: Config, launcher: str) -> None:
    """Create the run's process group, as mmengine's runner would do later."""
    if launcher == 'none' or torch.distributed.is_initialized():
        return
    options = _meeting_of_this_start() if launcher == 'pytorch' else {}
    dist_cfg = (config.get('env_cfg') or {}).get('dist_cfg') or {}
    if launcher == 'pytorch' and not torch.cuda.is_available():
        seconds = dist_cfg.get('timeout')
        if seconds is not None:
            if type(seconds) not in (int, float) or seconds <= 0:
                raise UserError(f'env_cfg.dist_cfg.timeout={seconds!r}: must be a number of seconds')
            options['timeout'] = timedelta(seconds=seconds)
        torch.distributed.init_process_group('gloo', **options)  # mmengine's init_dist requires a CUDA device
    else:
        init_dist(launcher, **dist_cfg, **options)


def _meeting_of_this_start() -> dict[str, Any]:
    """Return the store in which processes find each other, where torchrun has started them again.

    torchrun can keep one store over all its restarts, in which a process would find the addresses of those
    that have ended. Machines of a c10d rendezvous can differ in their numbers of restarts: those need
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE, as in deploy/, with which no store is kept.
    """
    restarts = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    is_kept = os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'
    if restarts == '0' or not is_kept:
        return {}
    store, rank, size = next(torch.distributed.rendezvous('env://'))
    store = torch.distributed.PrefixStore(f'restart {restarts}', store)
    return dict(store=store, rank=rank, world_size=size)


def launcher_of_environment() -> str:
    """Return 'pytorch' in a process that torchrun started, else 'none'."""
    return 'pytorch' if started_by_torchrun() else 'none'


def from_first_process(work: Callable[[], T]) -> T:
    """Call ``work`` only in the first process; every process returns its result or raises its error.

    The result can be pickled and is no string.

    Raises:
        UserError: in all processes if ``work`` raised it; only the first one reports it.
    """
    if get_world_size() == 1:
        return work()
    # a separate group, so that the others may wait longer than a training step may take
    group = torch.distributed.new_group(backend='gloo', timeout=timedelta(hours=4))
    result: list[Any] = [None]
    failure = None
    if get_rank() == 0:
        try:
            result = [work()]
        except BaseException as error:
            failure, result = error, [f'{type(error).__name__}: {error}']
    try:
        torch.distributed.broadcast_object_list(result, group=group)
    finally:
        torch.distributed.destroy_process_group(group)
    if failure is not None:
        raise failure
    if isinstance(result[0], str):
        raise OtherProcessError(result[0])
    return result[0]


def rank0_print(message: str) -> None:
    """Print a message in the first process only."""
    if process_rank() == 0:
        print(printable(message), flush=True)


def process_rank() -> int:
    """Read this process's rank from its launcher's variables, before any process group exists; else 0."""
    # mpirun inside a SLURM job inherits the job's variables, which are the same in all its processes
    for name in ('RANK', 'OMPI_COMM_WORLD_RANK', 'SLURM_PROCID'):
        if name in os.environ:
            return int(os.environ[name])
    return 0
