"""A copy of the backbone for inference alone: fewer operations, the same numbers (within rounding).

BatchNorm goes into the convolutions before it (Jacob et al., arXiv 1712.05877, section 3.2), layer scales into the layers before them, the
positions of windows become constants, memory is channels-last, and on a CPU each Linear runs as whatever is faster on that processor.
"""

import math
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .arch import STRIDES
from .layers.attention import TransformerLayer
from .layers.conv import ConvBlock, ConvStem
from .layers.memory_format import memory_format_of
from .layers.position import FixedPosition, Grid, PositionMlp
from .layers.position_cache import PositionCache
from .stages import AttentionStage

if TYPE_CHECKING:
    from .fastervit import FasterViT

#: (tokens, channels in, channels out) -> 'linear' or 'conv'.
Choices = dict[tuple[int, int, int], str]
#: Where no size is given, layers are measured with as many tokens as this (height, width) has: detection's usual input.
USUAL_SIZE = (800, 1280)
#: A convolution must be this much faster, so that noise does not decide.
GAIN = 0.97


class PointwiseConv(nn.Module):
    """A Linear as 1x1 convolution of the tokens, channels-last: the same products through another kernel.

    Args:
        linear: whose weights it takes over.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach()[:, :, None, None], requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C_out)."""
        # (..., C) -> (1, T, 1, C) -> (1, C, T, 1), channels-last in memory, and back
        y = F.conv2d(x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2), self.weight, self.bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class DeployedFasterViT(nn.Module):
    """What :meth:`FasterViT.deploy` returns.

    Args:
        net: a copy that this may change.
        size: (height, width) of all images to come, or None for any.
        dtype: in which it computes, or None for that of the weights.
        batch: images at once that layers are measured with.
        choices: instead of measuring.

    Attributes:
        size: as given.
        choices: what each Linear runs as, by (tokens, channels in, channels out); give it back to get the same again. Empty off the CPU.
        out_channels, out_strides: of every returned map.
    """

    def __init__(
        self,
        net: 'FasterViT',
        size: tuple[int, int] | None,
        dtype: torch.dtype | None,
        batch: int,
        choices: Mapping | None,
    ) -> None:
        super().__init__()
        self.size, self.out_channels, self.out_strides = size, net.out_channels, net.out_strides
        net.eval().requires_grad_(False)
        dtype = dtype or net.stem.conv1.weight.dtype
        _fold(net)
        for i, stage in enumerate(net.stages):
            if isinstance(stage, AttentionStage):
                _fix_positions(stage, None if size is None else _windows(size, i, stage.window), dtype)
        wide = {
            id(p) for m in net.modules() if isinstance(m, PositionMlp) for p in m.parameters()
        }  # compute in float32
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point() and id(tensor) not in wide:
                tensor.data = tensor.data.to(dtype)
        self.net = net.to(memory_format=torch.channels_last)
        on_cpu = next(net.parameters()).device.type == 'cpu'
        self.choices: Choices = (
            _choose(net, size or USUAL_SIZE, batch, dtype, {} if choices is None else choices)
            if on_cpu
            else {}
        )

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes."""
        return self.net.stem.conv1.weight.dtype

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`FasterViT.forward`; maps come in the dtype and memory format of ``images``.

        Raises:
            ValueError: another size than this copy was made for.
        """
        if self.size is not None and tuple(images.shape[2:]) != self.size:
            raise ValueError(
                f'this copy was made for images of {self.size[0]}x{self.size[1]} by deploy(size=...), '
                f'got {images.shape[2]}x{images.shape[3]}: deploy() without a size takes any'
            )
        maps = self.net(images.to(self.dtype, memory_format=torch.channels_last))
        return tuple(m.to(images.dtype, memory_format=memory_format_of(images)) for m in maps)

    def train(self, mode: bool = True) -> 'DeployedFasterViT':
        """Eval mode is all there is.

        Raises:
            RuntimeError: ``mode`` is true.
        """
        if mode and hasattr(self, 'net'):
            raise RuntimeError(
                'a deployed FasterViT cannot be trained: train the one that deploy() was called on'
            )
        return super().train(False)

    def extra_repr(self) -> str:
        """What ``print(net)`` shows."""
        return f'size={self.size}, dtype={self.dtype}'


def describe(choices: Choices) -> str:
    """One line: which shapes run as convolutions."""
    convs = [f'{i}->{o} x{t}' for (t, i, o), kind in choices.items() if kind == 'conv']
    return f'{len(choices) - len(convs)} shapes of layers run as Linear, {len(convs)} as 1x1 convolutions: {", ".join(convs) or "none"}'


def _fold(net: 'FasterViT') -> None:
    """BatchNorms into convolutions, layer scales into Linears."""
    for module in net.modules():
        if isinstance(module, ConvStem | ConvBlock):
            for conv, norm in (('conv1', 'norm1'), ('conv2', 'norm2')):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    propagating = {
        id(b.carrier.layer) for s in net.stages for b in s.blocks if getattr(b, 'propagate', False)
    }  # reads its scale
    for layer in (
        m
        for m in net.modules()
        if isinstance(m, TransformerLayer) and m.scale1 is not None and id(m) not in propagating
    ):
        for scale, linear in (('scale1', layer.attn.proj), ('scale2', layer.mlp.fc2)):
            linear.weight.mul_(getattr(layer, scale)[:, None])
            linear.bias.mul_(getattr(layer, scale))
            setattr(layer, scale, None)


def _windows(size: tuple[int, int], stage: int, window: int) -> Grid:
    """(rows, columns) of a stage's windows."""
    return tuple(math.ceil(math.ceil(n / STRIDES[stage]) / window) for n in size)


def _fix_positions(stage: AttentionStage, windows_hw: Grid | None, dtype: torch.dtype) -> None:
    """Make constants of the positions within windows, and with a size those of the carriers."""
    stage.cache = PositionCache(watch=False)
    for block in stage.blocks:
        grid, c = (block.window, block.window), block.carrier_size or 0
        parts = [(block, grid, c * c)]
        if block.carrier is not None and windows_hw is not None:
            parts.append((block.carrier, tuple(n * c for n in windows_hw), 0))
        for owner, over, num_prefix_tokens in parts:
            owner.position = FixedPosition(owner.position, over, num_prefix_tokens, dtype)
            owner.bias = FixedPosition(owner.bias, over, num_prefix_tokens, dtype)


def _choose(
    net: 'FasterViT', size: tuple[int, int], batch: int, dtype: torch.dtype, choices: Mapping
) -> Choices:
    """Turn Linears into convolutions where those are faster; measures each shape that ``choices`` does not have."""
    used: Choices = {}
    for i, stage in enumerate(net.stages):
        if not isinstance(stage, AttentionStage):
            continue
        nH, nW = _windows(size, i, stage.window)
        for block in stage.blocks:
            num_prefix_tokens = (block.carrier_size or 0) ** 2
            layers = [(block.layer, batch * nH * nW * (num_prefix_tokens + stage.window**2))]
            layers += (
                [(block.carrier.layer, batch * nH * nW * num_prefix_tokens)] if num_prefix_tokens else []
            )
            for layer, tokens in layers:
                for owner, name in (
                    (layer.attn, 'qkv'),
                    (layer.attn, 'proj'),
                    (layer.mlp, 'fc1'),
                    (layer.mlp, 'fc2'),
                ):
                    linear = getattr(owner, name)
                    key = (tokens, linear.in_features, linear.out_features)
                    if key not in used:
                        used[key] = choices[key] if key in choices else _faster(linear, tokens, dtype)
                    if used[key] == 'conv':
                        setattr(owner, name, PointwiseConv(linear))
    return used


@torch.no_grad()
def _faster(linear: nn.Linear, tokens: int, dtype: torch.dtype, rounds: int = 9) -> str:
    """'linear' or 'conv', by the median of alternating runs."""
    x = torch.randn(1, tokens, linear.in_features, dtype=dtype)
    candidates, times = {'linear': linear, 'conv': PointwiseConv(linear)}, {'linear': [], 'conv': []}
    for turn in range(rounds + 2):
        for name, module in candidates.items():
            start = time.perf_counter()
            module(x)
            if turn > 1:  # the first ones warm up
                times[name].append(time.perf_counter() - start)
    return (
        'conv' if statistics.median(times['conv']) < GAIN * statistics.median(times['linear']) else 'linear'
    )
