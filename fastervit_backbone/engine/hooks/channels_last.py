"""Channels-last memory, in which a CPU's bfloat16 convolutions are faster."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from ..runner.build import unwrap_model


class ChannelsLastHook(Hook):
    """Train with weights and images in channels-last memory."""

    priority = 'VERY_HIGH'  # before an average copies the model

    def before_run(self, runner: Runner) -> None:
        """Convert the weights, and the images that the backbone gets."""
        model = unwrap_model(runner.model)
        model.to(memory_format=torch.channels_last)
        model.backbone.register_forward_pre_hook(_to_channels_last)


class PlainCheckpointHook(Hook):
    """Store weights and the optimizer's state in plain order, as everywhere else."""

    priority = 'LOWEST'  # after an average put its weights there

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Convert what is saved."""
        states = (checkpoint.get('optimizer') or {}).get('state', {}).values()
        for tensors in (checkpoint['state_dict'], checkpoint.get('ema_state_dict', {}), *states):
            tensors.update({k: v.contiguous() for k, v in tensors.items() if isinstance(v, Tensor)})


def _to_channels_last(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, *others = inputs
    return (images.contiguous(memory_format=torch.channels_last), *others)
