"""A copy of the backbone for inference only: fewer operations, the same numbers (within rounding).

BatchNorm is folded into the convolutions before it (Jacob et al., arXiv 1712.05877, section 3.2), layer
scales into the layers before them, the positions of windows become constants, memory is channels-last, and on
a CPU each Linear runs as the faster of two kernels.
"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .arch import STRIDES
from .layers.attention import TransformerLayer
from .layers.conv import ConvBlock, ConvStem
from .layers.hat import CarrierLayer, PositionedLayer
from .layers.low_rank import merge_adapters
from .layers.memory_format import memory_format_of
from .layers.position import FixedPosition, Grid, PositionMlp, RelativeBias
from .layers.position_cache import PositionCache
from .stages import AttentionStage

if TYPE_CHECKING:
    from .fastervit import FasterViT

Kernel = Literal['linear', 'conv']
#: (tokens, input channels, output channels) -> kernel.
Choices = dict[tuple[int, int, int], Kernel]
#: Without a size, layers are timed with the tokens of an image of this (height, width), usual in detection.
DEFAULT_SIZE = (800, 1280)
#: A convolution must take at most this fraction of the Linear's time, so that noise does not decide.
MAX_TIME_RATIO = 0.97


class PointwiseConv(nn.Module):
    """A Linear as a channels-last 1x1 convolution of the tokens: the same products with another kernel.

    Args:
        linear: the layer whose weights are taken over.
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
    """Inference copy returned by :meth:`FasterViT.deploy`.

    Args:
        net: a copy of the backbone, modified in place.
        size: (height, width) of all images, or None for any size.
        dtype: dtype of the computation, or None for that of the weights.
        batch: images per batch when layers are timed.
        choices: earlier choices to use instead of timing, or 'linear'.

    Attributes:
        size: as given.
        choices: kernel of each Linear, by (tokens, input channels, output channels); pass it to ``deploy`` to
            reproduce this copy. Empty off the CPU.
        out_channels, out_strides: of every returned map.
    """

    def __init__(
        self,
        net: 'FasterViT',
        size: tuple[int, int] | None,
        dtype: torch.dtype | None,
        batch: int,
        choices: Mapping[tuple[int, int, int], Kernel] | Literal['linear'] | None,
    ) -> None:
        super().__init__()
        self.size, self.out_channels, self.out_strides = size, net.out_channels, net.out_strides
        merge_adapters(net)
        net.eval().requires_grad_(False)
        first = next(net.stem.parameters())
        dtype = dtype or first.dtype
        _fold(net)
        for i, stage in _attention_stages(net):
            _fix_positions(stage, None if size is None else _windows_hw(size, i, stage.window), dtype)
        position_mlps = [m for m in net.modules() if isinstance(m, PositionMlp)]
        float32_ids = {id(p) for m in position_mlps for p in m.parameters()}
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point() and id(tensor) not in float32_ids:
                tensor.data = tensor.data.to(dtype)
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        self.choices: Choices = {}
        if first.device.type == 'cpu' and not isinstance(choices, str):
            known = {} if choices is None else choices
            self.choices = _choose_kernels(net, size or DEFAULT_SIZE, batch, dtype, known)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the computation."""
        return next(self.net.stem.parameters()).dtype

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute maps like :meth:`FasterViT.forward`, in the dtype and memory format of ``images``.

        Raises:
            ValueError: images of another size than this copy was made for.
        """
        if self.size is not None and tuple(images.shape[2:]) != self.size:
            raise ValueError(
                f'this copy was made for images of {self.size[0]}x{self.size[1]} by deploy(size=...), '
                f'got {images.shape[2]}x{images.shape[3]}: deploy() without a size accepts any'
            )
        maps = self.net(images.to(self.dtype, memory_format=torch.channels_last))
        return tuple(m.to(images.dtype, memory_format=memory_format_of(images)) for m in maps)

    def train(self, mode: bool = True) -> 'DeployedFasterViT':
        """Stay in eval mode.

        Raises:
            RuntimeError: ``mode`` is true.
        """
        if mode and hasattr(self, 'net'):
            raise RuntimeError(
                'a deployed FasterViT cannot be trained: train the model that deploy() was called on'
            )
        return super().train(False)

    def extra_repr(self) -> str:
        """Arguments shown by ``print(net)``."""
        return f'size={self.size}, dtype={self.dtype}'


def describe(choices: Choices) -> str:
    """Describe the chosen kernels on one line."""
    convs = [f'{i}->{o} x{t}' for (t, i, o), kernel in choices.items() if kernel == 'conv']
    return (
        f'{len(choices) - len(convs)} layer shapes run as Linear, {len(convs)} as 1x1 convolutions: '
        f'{", ".join(convs) or "none"}'
    )


def _attention_stages(net: 'FasterViT') -> Iterator[tuple[int, AttentionStage]]:
    return ((i, stage) for i, stage in enumerate(net.stages) if isinstance(stage, AttentionStage))


def _fold(net: 'FasterViT') -> None:
    """Fold BatchNorms into convolutions and layer scales into Linears."""
    blocks = [block for _, stage in _attention_stages(net) for block in stage.blocks]
    # propagation reads the scale of its carrier layer
    keep_scales = {id(b.carrier.layer) for b in blocks if b.propagate and isinstance(b.carrier, CarrierLayer)}
    for module in net.modules():
        if isinstance(module, ConvStem | ConvBlock):
            module.conv1 = fuse_conv_bn_eval(module.conv1, module.norm1)
            module.conv2 = fuse_conv_bn_eval(module.conv2, module.norm2)
            for norm in ('norm1', 'norm2'):
                setattr(module, norm, nn.Identity())
        elif isinstance(module, TransformerLayer) and id(module) not in keep_scales:
            _fold_scales(module)


def _fold_scales(layer: TransformerLayer) -> None:
    if layer.scale1 is None or layer.scale2 is None:
        return
    for scale, linear in ((layer.scale1, layer.attn.proj), (layer.scale2, layer.mlp.fc2)):
        linear.weight.mul_(scale[:, None])
        linear.bias.mul_(scale)
    layer.scale1 = layer.scale2 = None


def _windows_hw(size: tuple[int, int], index: int, window: int) -> Grid:
    """Return (rows, columns) of windows in a stage, for images of ``size``."""
    rows, cols = (math.ceil(math.ceil(n / STRIDES[index]) / window) for n in size)
    return rows, cols


def _fix_positions(stage: AttentionStage, windows_hw: Grid | None, dtype: torch.dtype) -> None:
    """Make constants of the positions within windows and, if ``windows_hw`` is known, of the carriers'."""
    stage.cache = PositionCache(watch=False)
    for block in stage.blocks:
        c = block.carrier_size or 0
        owners: list[tuple[PositionedLayer, Grid, int]] = [(block, (block.window, block.window), c * c)]
        if isinstance(block.carrier, CarrierLayer) and windows_hw is not None:
            carrier_grid = (windows_hw[0] * c, windows_hw[1] * c)
            if max(carrier_grid) <= (stage.carrier_window or max(carrier_grid)):  # else several grids
                owners.append((block.carrier, carrier_grid, 0))
        for owner, grid, num_prefix_tokens in owners:
            owner.position = FixedPosition(owner.position, grid, num_prefix_tokens, dtype)
            if type(owner.bias) is RelativeBias:
                owner.bias = FixedPosition(owner.bias, grid, num_prefix_tokens, dtype)


def _choose_kernels(
    net: 'FasterViT',
    size: tuple[int, int],
    batch: int,
    dtype: torch.dtype,
    choices: Mapping[tuple[int, int, int], Kernel],
) -> Choices:
    """Replace Linears by convolutions where those are faster; times each shape that ``choices`` lacks."""
    used: Choices = {}
    for layer, tokens in _transformer_layers(net, size, batch):
        for owner, name in (
            (layer.attn, 'qkv'),
            (layer.attn, 'proj'),
            (layer.mlp, 'fc1'),
            (layer.mlp, 'fc2'),
        ):
            linear: nn.Linear = getattr(owner, name)
            key = (tokens, linear.in_features, linear.out_features)
            if key not in used:
                used[key] = choices[key] if key in choices else _faster_kernel(linear, tokens, dtype)
            if used[key] == 'conv':
                setattr(owner, name, PointwiseConv(linear))
    return used


def _transformer_layers(
    net: 'FasterViT', size: tuple[int, int], batch: int
) -> Iterator[tuple[TransformerLayer, int]]:
    """Yield every transformer layer with the number of tokens that it gets."""
    for i, stage in _attention_stages(net):
        num_windows = batch * math.prod(_windows_hw(size, i, stage.window))
        for block in stage.blocks:
            num_carriers = (block.carrier_size or 0) ** 2
            yield block.layer, num_windows * (num_carriers + stage.window**2)
            if isinstance(block.carrier, CarrierLayer):
                yield block.carrier.layer, num_windows * num_carriers


@torch.no_grad()
def _faster_kernel(linear: nn.Linear, tokens: int, dtype: torch.dtype, rounds: int = 9) -> Kernel:
    """Compare the median times of interleaved runs."""
    x = torch.randn(1, tokens, linear.in_features, dtype=dtype)
    conv = PointwiseConv(linear)
    linear_times, conv_times = [], []
    for turn in range(rounds + 2):
        times = _time(linear, x), _time(conv, x)
        if turn > 1:  # the first two warm up
            linear_times.append(times[0])
            conv_times.append(times[1])
    ratio = statistics.median(conv_times) / statistics.median(linear_times)
    return 'conv' if ratio < MAX_TIME_RATIO else 'linear'


def _time(module: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    module(x)
    return time.perf_counter() - start
