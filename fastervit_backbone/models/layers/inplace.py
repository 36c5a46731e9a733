"""Residuals and activations that reuse the memory of what they are given, where no gradient asks for it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def add_residual(x: Tensor, branch: Tensor) -> Tensor:
    """``x + branch``; into ``branch`` itself where :func:`_ours` (a forward hook that keeps the branch then finds the sum)."""
    in_place = branch.dtype == x.dtype and branch is not x and _ours(branch)
    return branch.add_(x) if in_place else x + branch


def gelu(x: Tensor) -> Tensor:
    """Exact GELU; into ``x`` itself without gradients."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def relu(x: Tensor) -> Tensor:
    """ReLU; into ``x`` itself where :func:`_ours`."""
    return F.relu(x, inplace=_ours(x))


def _ours(result: Tensor) -> bool:
    """Whether a norm's or convolution's result may be overwritten: in training not a view, which a full backward hook makes of it."""
    return not torch.is_grad_enabled() or not (
        torch.compiler.is_compiling() or result._is_view() or result.is_leaf
    )
