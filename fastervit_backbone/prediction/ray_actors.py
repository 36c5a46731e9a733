"""Predict with actors of Ray, on one machine or a cluster (extra ``ray``)."""

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from ..options import PredictOptions
from ..utils.errors import UserError
from ..utils.log import log
from ..utils.trust import pickles_are_trusted, trusting_pickles
from .report import PredictionReport

#: How often actors that die are started again.
RESTARTS = 3


class Worker:
    """A process of the run, which is what a process that torchrun starts is."""

    def meeting(self) -> dict[str, str]:
        """Return where the processes meet, if this is the first one."""
        with socket.socket() as free:
            free.bind(('', 0))
            port = free.getsockname()[1]
        return dict(MASTER_ADDR=ray.util.get_node_ip_address(), MASTER_PORT=str(port))

    def run(
        self,
        work: Callable[[PredictOptions], PredictionReport],
        variables: dict[str, str],
        options: dict[str, Any],
        trusting: bool,
    ) -> PredictionReport:
        """Do this process's part of the work; see :func:`predict_with_ray`."""
        os.environ.update(variables)
        with trusting_pickles(trusting):
            return work(PredictOptions(**options))


def predict_with_ray(
    work: Callable[[PredictOptions], PredictionReport], options: PredictOptions, actors: int
) -> PredictionReport:
    """Predict in actors of Ray, each with its part of the sources; all see the same files.

    Ray finds a cluster by its own variable, ``RAY_ADDRESS``; without it, it uses this machine. An actor gets
    a GPU if the cluster has one for each. When an actor dies, all are started again, and resume.

    Args:
        work: predicts the part of a process that torchrun started.
        options: of the prediction.
        actors: their number.

    Returns:
        the report of all.

    Raises:
        UserError: as :func:`~.predict.predict`; or actors died too often, or the cluster is too small.
    """
    ray.init(ignore_reinit_error=True, include_dashboard=False, logging_level=logging.ERROR)
    resources = ray.cluster_resources()
    if resources.get('CPU', 0) < actors:
        raise UserError(f'--actors {actors}: the cluster has only {resources.get("CPU", 0):g} CPUs')
    gpus = 1 if resources.get('GPU', 0) >= actors else 0
    kind = ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
    content = asdict(_with_absolute_paths(options))
    for restart in range(RESTARTS + 1):
        workers: list[Any] = [kind.remote() for _ in range(actors)]
        try:
            return _run(workers, work, content)
        except RayActorError as error:
            cause = str(error).splitlines()[0]
            if restart == RESTARTS:
                raise UserError(
                    f'an actor of Ray died {RESTARTS + 1} times ({cause}): finished results are kept, the '
                    'same command resumes'
                ) from error
            log(f'an actor of Ray died ({cause}): all are started again')
        finally:
            for worker in workers:
                ray.kill(worker)
            content['overwrite'] = False  # what this run has finished is kept
    raise AssertionError('the last start returns or raises')


def _run(workers: list[Any], work: Callable, options: dict[str, Any]) -> PredictionReport:
    """Run all workers and return the report of the first; the first error ends the others."""
    common = ray.get(workers[0].meeting.remote()) | dict(
        WORLD_SIZE=str(len(workers)), LOCAL_RANK='0', TORCHELASTIC_RUN_ID='ray'
    )
    running = [
        worker.run.remote(work, common | dict(RANK=str(rank)), options, pickles_are_trusted())
        for rank, worker in enumerate(workers)
    ]
    first, left = running[0], running
    while left:
        (done, *_), left = ray.wait(left)
        try:
            ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from None
    return ray.get(first)


def _with_absolute_paths(options: PredictOptions) -> PredictOptions:
    """Return options that mean the same in another folder."""

    def absolute(value: Any) -> Any:
        return str(Path(value).absolute()) if value is not None and Path(value).exists() else value

    sources = options.sources
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    return replace(
        options,
        config=absolute(options.config),
        checkpoint=absolute(options.checkpoint),
        sources=[os.path.abspath(source) for source in sources],
        annotations=absolute(options.annotations),
        out=str(Path(options.out).absolute()) if options.out else options.out,
        engine=None,
    )
