"""In-place residuals and activations, and where autograd allows them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def add_residual(x: Tensor, branch: Tensor) -> Tensor:
    """Return ``x + branch``, written into ``branch`` where possible.

    A forward hook that keeps the branch then sees the sum.
    """
    in_place = branch.dtype == x.dtype and branch is not x and _may_overwrite(branch)
    return branch.add_(x) if in_place else x + branch


def gelu(x: Tensor) -> Tensor:
    """Exact GELU, in place without gradients."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def relu(x: Tensor) -> Tensor:
    """ReLU, in place where possible."""
    return F.relu(x, inplace=_may_overwrite(x))


def _may_overwrite(result: Tensor) -> bool:
    """Whether the result of a norm or convolution may be overwritten.

    With gradients a view may not be: full backward hooks turn results into views.
    """
    if not torch.is_grad_enabled():
        return True
    return not (torch.compiler.is_compiling() or result._is_view() or result.is_leaf)


def is_eager_inference(module: nn.Module) -> bool:
    """Whether ``module`` runs in eval mode, without gradients and outside compiling and tracing."""
    if module.training or torch.is_grad_enabled():
        return False
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())
