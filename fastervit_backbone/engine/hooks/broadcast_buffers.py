"""Evaluate in every process what the checkpoint holds: the statistics of the first one."""

from collections.abc import Iterable

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from ..runner.build import unwrap_model


class BroadcastBuffersHook(Hook):
    """Copy the buffers of the first process, such as BatchNorm's, to the others before an evaluation.

    Every process collects statistics of its own images, and only the first one's are saved. In training mode
    they are not used, so that this changes no training.
    """

    def before_val(self, runner: Runner) -> None:
        """Copy those of the model and of its moving average."""
        if get_world_size() == 1:
            return
        # not its own buffer, the number of its steps, which stays on the CPU and is the same everywhere
        averages = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
        for model in (unwrap_model(runner.model), *averages):
            broadcast(model.buffers())


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the tensors of the first process to those of the others, all of one kind at once."""
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    for group in groups.values():
        flat = torch.cat([tensor.flatten() for tensor in group])
        torch.distributed.broadcast(flat, 0)
        for tensor, values in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.copy_(values.reshape(tensor.shape))
