"""Low-rank updates of frozen layers: LoRA (Hu et al., arXiv 2106.09685)."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, Mlp


class LowRankLinear(nn.Linear):
    """A frozen Linear and the product of two narrow matrices, which learn: ``W + B A`` (equation 3).

    Args:
        linear: whose weights are taken over.
        rank: columns of B and rows of A; their product is not scaled (alpha = rank).
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device='meta')
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_A = nn.Parameter(self.weight.new_empty(rank, linear.in_features))
        self.lora_B = nn.Parameter(self.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C_out)."""
        return super().forward(x) + F.linear(F.linear(x, self.lora_A), self.lora_B)

    def merged(self) -> nn.Linear:
        """Return a Linear that computes the same."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device='meta')
        weight = self.weight.detach() + self.lora_B.detach() @ self.lora_A.detach()
        linear.weight, linear.bias = nn.Parameter(weight, self.weight.requires_grad), self.bias
        return linear.train(self.training)


def add_adapters(part: nn.Module, rank: int) -> int:
    """Exchange the linear layers of attention and MLPs; returns how many."""
    names = {Attention: ('qkv', 'proj'), Mlp: ('fc1', 'fc2')}
    count = 0
    for module in list(part.modules()):
        for name in next((names[kind] for kind in names if isinstance(module, kind)), ()):
            setattr(module, name, LowRankLinear(getattr(module, name), rank))
            count += 1
    return count


def merge_adapters(part: nn.Module) -> None:
    """Put plain linear layers that compute the same in the place of :class:`LowRankLinear`."""
    for module in list(part.modules()):
        for name, child in module.named_children():
            if isinstance(child, LowRankLinear):
                setattr(module, name, child.merged())


def is_adapter(name: str) -> bool:
    """Whether a tensor's name is that of an adapter; without it, a file loads with its initial value."""
    return name.endswith(('.lora_A', '.lora_B'))


def fitted_adapters(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict for a model with the tensors ``expected``: merged if its adapters are others."""

    def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
        return {name: value.shape for name, value in state.items() if is_adapter(name)}

    return dict(tensors) if shapes(tensors) == shapes(expected) else merged_tensors(tensors)


def merged_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without adapters, which are added to the weights they belong to."""
    result = {name: value for name, value in tensors.items() if not is_adapter(name)}
    for name, lora_B in tensors.items():
        if name.endswith('.lora_B'):
            layer = name.removesuffix('lora_B')
            weight = result[f'{layer}weight']
            result[f'{layer}weight'] = weight + (lora_B.to(weight) @ tensors[f'{layer}lora_A'].to(weight))
    return result
