"""Train in Ray Train's TorchTrainer, on one machine or a cluster (extra ``ray``)."""

import os
from dataclasses import asdict, replace
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from .options import TrainOptions, resolve
from .options.field import Place
from .utils.errors import UserError
from .utils.trust import pickles_are_trusted, trusting_pickles


def ray_trainer(
    source: Place | TrainOptions | None = None,
    /,
    *,
    workers: int,
    gpus: bool = False,
    restarts: int = 3,
    **options: Any,
) -> TorchTrainer:
    """Return a trainer whose ``fit()`` is :func:`~fastervit_backbone.train.train` in workers of Ray.

    Workers see the same files, so the work dir is on a shared disk; they write the checkpoints there, and
    after a worker has died or a machine was told to go (SIGTERM), all are started again. A work dir with
    checkpoints is resumed. Ray finds a cluster by its own variable, ``RAY_ADDRESS``.

    Args:
        source: config file, or all options.
        workers: number of processes.
        gpus: give each a GPU.
        restarts: how often workers are started again before ``fit()`` raises.
        options: of :class:`~fastervit_backbone.options.TrainOptions`: ``work_dir``, which is required, ...

    Raises:
        TypeError: an option that does not exist.
        UserError: no work dir, no workers, or an option that Ray replaces.
    """
    o = resolve(TrainOptions, source, options)
    if o.work_dir is None:
        raise UserError('work_dir is required: workers have working directories of their own')
    if workers < 1:
        raise UserError(f'workers={workers}: must be at least 1')
    if o.resume not in (False, True, 'auto'):
        raise UserError(
            f'resume={o.resume}: a restarted run resumes from its work dir: start from the file with '
            'options=dict(load_from=FILE)'
        )
    if o.launcher != 'none':
        raise UserError(f'launcher={o.launcher!r}: Ray starts the workers, leave it out')
    content = asdict(
        replace(
            o,
            config=os.path.abspath(o.config),
            work_dir=os.path.abspath(o.work_dir),
            resume='auto',
            launcher='pytorch' if workers > 1 else 'none',
        )
    )
    content |= dict(trusting=pickles_are_trusted(), folder=os.getcwd())
    return TorchTrainer(
        _work,
        train_loop_config=content,
        torch_config=TorchConfig(backend='nccl' if gpus else 'gloo'),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
        run_config=RunConfig(
            name='ray',
            storage_path=os.path.abspath(o.work_dir),
            failure_config=FailureConfig(max_failures=restarts),
        ),
    )


def _work(content: dict[str, Any]) -> None:
    """Train in a worker."""
    from .train import train  # in the worker: it imports torch and the toolkits

    options = dict(content)
    trusting, folder = options.pop('trusting'), options.pop('folder')
    os.chdir(folder)  # for relative paths in configs
    with trusting_pickles(trusting):
        train(TrainOptions(**options))
