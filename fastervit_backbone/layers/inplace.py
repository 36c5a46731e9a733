"""Residuals and activations that reuse the memory of what they are given, in inference."""

import torch
import torch.nn.functional as F
from torch import Tensor


def add_residual(x: Tensor, branch: Tensor) -> Tensor:
    """``x + branch``; into ``branch`` itself without gradients (a forward hook that keeps the branch then finds the sum)."""
    in_place = not torch.is_grad_enabled() and branch.dtype == x.dtype and branch is not x
    return branch.add_(x) if in_place else x + branch


def gelu(x: Tensor) -> Tensor:
    """Exact GELU; into ``x`` itself without gradients."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def relu(x: Tensor) -> Tensor:
    """ReLU; into ``x`` itself without gradients."""
    return F.relu(x, inplace=not torch.is_grad_enabled())
