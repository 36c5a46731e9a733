"""The two kinds of stages: convolutional blocks, and blocks on windows with their carriers."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from .arch import ArchSpec
from .layers.carrier import CarrierTokenizer, higher_carriers
from .layers.conv import ConvBlock, Downsample, PatchMerging
from .layers.hat import AttentionBlock
from .layers.inplace import is_eager_inference
from .layers.position import AUTOCAST_DEVICES, Grid
from .layers.position_cache import PositionCache
from .layers.recompute import recomputed
from .layers.window import carriers_to_windows, pad_to_windows, window_partition, window_unpartition


class ConvStage(nn.Module):
    """Stage of convolutional blocks (the paper's 1 and 2).

    Args:
        spec: the variant.
        index: of the stage, from 0.
        drop_paths: stochastic depth of each block; their number is the depth.
        downsample: whether a :class:`Downsample` follows.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
    """

    blocks: Sequence[nn.Module]

    def __init__(
        self, spec: ArchSpec, index: int, drop_paths: tuple[float, ...], downsample: bool, with_cp: bool
    ) -> None:
        super().__init__()
        dim, self.with_cp = spec.channels[index], with_cp
        blocks = nn.ModuleList(self.make_block(spec, index, j, p) for j, p in enumerate(drop_paths))
        self.blocks = cast(Sequence[nn.Module], blocks)
        self.downsample = _downsample(spec, dim) if downsample else None

    def make_block(self, spec: ArchSpec, index: int, j: int, drop_path: float) -> nn.Module:
        """Create block ``j`` of stage ``index``."""
        return ConvBlock(spec.channels[index], drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape, before downsampling."""
        for block in self.blocks:
            x = _run_block(self.with_cp, block, x)
        return x


class AttentionStage(nn.Module):
    """Windowed stage (the paper's 3 and 4): pads and partitions into windows once, whatever the depth.

    Args:
        spec: the variant.
        index: of the stage, from 0.
        drop_paths: stochastic depth of each block; their number is the depth.
        downsample: whether a :class:`Downsample` follows.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
    """

    block_type: ClassVar[type[AttentionBlock]] = AttentionBlock

    blocks: Sequence[AttentionBlock]

    def __init__(
        self, spec: ArchSpec, index: int, drop_paths: tuple[float, ...], downsample: bool, with_cp: bool
    ) -> None:
        super().__init__()
        dim, self.window, self.with_cp = spec.channels[index], spec.window_sizes[index], with_cp
        self.carrier_window = spec.carrier_window
        carrier_size = spec.carrier_size if spec.hat[index] else None
        self.tokenizer: CarrierTokenizer | None = None
        if carrier_size:
            self.tokenizer = CarrierTokenizer(dim, self.window, carrier_size)
        blocks = nn.ModuleList(self.make_block(spec, index, j, p) for j, p in enumerate(drop_paths))
        self.blocks = cast(Sequence[AttentionBlock], blocks)
        self.downsample = _downsample(spec, dim) if downsample else None
        self.cache = PositionCache()

    def make_block(self, spec: ArchSpec, index: int, j: int, drop_path: float) -> AttentionBlock:
        """Create block ``j`` of stage ``index``."""
        is_hierarchical = spec.hat[index] and (j + 1) % spec.hat_every == 0
        return self.block_type(
            spec.channels[index],
            spec.num_heads[index],
            spec.window_sizes[index],
            spec.carrier_size if is_hierarchical else None,
            spec.mlp_ratio,
            drop_path,
            spec.layer_scale,
            propagate=is_hierarchical and spec.propagation and j == spec.depths[index] - 1,
            carrier_window=spec.carrier_window,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape, before downsampling."""
        H, W = x.shape[2:]
        w = self.window
        # (B, C, H, W) -> (B, nH*w, nW*w, C)
        x_BHWC = pad_to_windows(x.permute(0, 2, 3, 1), w)
        windows_hw = (x_BHWC.shape[1] // w, x_BHWC.shape[2] // w)
        # (B, nH*w, nW*w, C) -> (B*nH*nW, w*w, C)
        x = window_partition(x_BHWC, w)
        higher: tuple[Tensor, ...] = ()
        if self.tokenizer is not None:
            carriers, c = self.tokenizer(x_BHWC), self.tokenizer.carrier_size
            if self.carrier_window is not None:
                grid = (windows_hw[0] * c, windows_hw[1] * c)
                higher = higher_carriers(carriers, grid, self.carrier_window, c)
            x = torch.cat((carriers_to_windows(carriers, c, windows_hw), x), 1)  # (B*nH*nW, L + w*w, C)
        x = self.run_blocks(x, windows_hw, higher)
        # (B*nH*nW, L + w*w, C) -> (B, nH*w, nW*w, C) -> (B, C, H, W)
        return window_unpartition(x[:, -w * w :], w, windows_hw)[:, :H, :W].permute(0, 3, 1, 2)

    def run_blocks(self, x: Tensor, windows_hw: Grid, higher: tuple[Tensor, ...]) -> Tensor:
        """Run all blocks.

        Args:
            x: (B*nH*nW, L + w*w, C), each window's carriers and tokens.
            windows_hw: (nH, nW).
            higher: carriers of order 2, 3, ... of the images.

        Returns:
            like ``x``.
        """
        bias_dtype, cache = compute_dtype(x), self.usable_cache()
        for block in self.blocks:
            x, higher = self.run_block(block, x, windows_hw, bias_dtype, cache, higher)
        return x

    def run_block(
        self,
        block: AttentionBlock,
        x: Tensor,
        windows_hw: Grid,
        bias_dtype: torch.dtype,
        cache: PositionCache | None,
        higher: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run a block; the carriers pass one without carriers unchanged."""
        L = x.shape[1] - self.window**2
        if not L or block.carrier is not None:
            return _run_block(self.with_cp, block, x, windows_hw, bias_dtype, cache, higher)
        tokens, _ = _run_block(self.with_cp, block, x[:, L:], windows_hw, bias_dtype, cache)
        return torch.cat((x[:, :L], tokens), 1), higher

    def train(self, mode: bool = True) -> 'AttentionStage':
        """Set the mode like ``nn.Module.train`` and clear the position cache."""
        self.cache.clear()
        return super().train(mode)

    def usable_cache(self) -> PositionCache | None:
        """Return the position cache where it may be used: in eager inference."""
        if not is_eager_inference(self):
            return None
        return self.cache.refresh(m for block in self.blocks for m in block.position_modules())


def _downsample(spec: ArchSpec, dim: int) -> Downsample | PatchMerging:
    return Downsample(dim) if spec.downsample == 'conv' else PatchMerging(dim)


def _run_block(with_cp: bool, block: nn.Module, *args: Any) -> Any:
    """Run a block, with gradient checkpointing if asked for and gradients are needed."""
    return recomputed(block, *args) if with_cp and torch.is_grad_enabled() else block(*args)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of a Linear's output for ``x``: autocast's, or that of ``x``."""
    device = x.device.type
    autocast = device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else x.dtype
