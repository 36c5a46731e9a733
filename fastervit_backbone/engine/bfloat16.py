"""Training in bfloat16 on any device, CPUs among them; mmengine's AmpOptimWrapper refuses a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn


class BFloat16OptimWrapper(OptimWrapper):
    """Computes the losses under autocast to bfloat16; weights, gradients and optimizer stay in float32.

    bfloat16 has the range of float32 and needs no scaling of the loss.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of a step under autocast."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
