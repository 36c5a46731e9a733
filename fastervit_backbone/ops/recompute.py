"""What several operators share: float32 for 16-bit numbers, and gradients by running the forward again."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor
) -> Sequence[Tensor]:
    """Return the gradients of ``function(*inputs)`` with respect to all inputs."""
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in inputs]
        return torch.autograd.grad(function(*leaves), leaves, grad_output)


def wide(x: Tensor) -> Tensor:
    """Return 16-bit numbers as float32, others as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
