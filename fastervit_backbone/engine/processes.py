"""The processes of one run: how many, which is first, and what the first one tells the others."""

import os
from collections.abc import Callable
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size, init_dist

from ..utils.errors import ElsewhereError, UserError


def world_size(launcher: str) -> int:
    """Processes of this run, from the launcher's environment."""
    name = {'none': '', 'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}[
        launcher
    ]
    if name and name not in os.environ:
        raise UserError(
            f'--launcher {launcher} needs the variable {name}, which is not set: start through that launcher'
        )
    return int(os.environ[name]) if name else 1


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
