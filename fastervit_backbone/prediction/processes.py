"""The processes of a prediction: which sources are this one's, and reports put together.

torch is imported only where there are several processes: exported files need none.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from ..utils.torchrun import started_by_torchrun

T = TypeVar('T')


@dataclass(frozen=True)
class Share:
    """This process's part of a run.

    Attributes:
        rank: of the process.
        count: processes of the run.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls) -> 'Share':
        """Join the processes that torchrun started; the only process where it did not."""
        if not started_by_torchrun() or int(os.environ['WORLD_SIZE']) == 1:
            return cls()
        import torch.distributed as dist

        if not dist.is_initialized():
            # only reports are exchanged; a process waits for the others until all are done
            dist.init_process_group('gloo', timeout=timedelta(days=30))
        return cls(dist.get_rank(), dist.get_world_size())

    def device(self, device: str | None) -> str | None:
        """Return this process's CUDA device where none is named and there are several."""
        if device is not None or self.count == 1:
            return device
        import torch

        count = torch.cuda.device_count()
        return f'cuda:{int(os.environ["LOCAL_RANK"]) % count}' if count else None

    def takes(self, number: int) -> bool:
        """Return whether the source of this number is this process's."""
        return number % self.count == self.rank

    def first(self, work: Callable[[], None]) -> None:
        """Call ``work`` in the first process, while the others wait; its error ends all of them.

        Raises:
            OtherProcessError: in the others; the first one raises and reports the error itself.
        """
        if self.count == 1:
            work()
            return
        from ..engine.processes import from_first_process

        def report() -> bool:
            work()
            return True

        from_first_process(report)

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier()

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values: list[T | None] = [None] * self.count
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]
