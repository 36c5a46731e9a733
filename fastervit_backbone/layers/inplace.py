"""Residuals and activations that reuse the memory of what they are given, where the gradient allows it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def add_residual(x: Tensor, branch: Tensor) -> Tensor:
    """``x + branch``, written into ``branch``; nothing that made it (convolution, norm, product) needs its own result for a gradient."""
    return branch.add_(x) if branch.dtype == x.dtype and branch is not x else x + branch


def gelu(x: Tensor) -> Tensor:
    """Exact GELU; into ``x`` itself where no gradient will ask for it."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)
