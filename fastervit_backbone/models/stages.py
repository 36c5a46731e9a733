"""The two kinds of stages: blocks on maps, and blocks on windows with their carriers."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .arch import ArchSpec
from .layers.carrier import CarrierTokenizer, higher_carriers, propagate_carriers
from .layers.conv import ConvBlock, Downsample, PatchMerging
from .layers.edgevit import EdgeVitBlock
from .layers.hat import AttentionBlock
from .layers.inplace import is_eager_inference
from .layers.position import AUTOCAST_DEVICES
from .layers.position_cache import PositionCache
from .layers.recompute import recomputed
from .layers.twins import TwinsBlock
from .layers.window import carriers_to_windows, pad_to_windows, window_partition, window_unpartition


class MapStage(nn.Module):
    """Stage of blocks that take and return the map: convolutions (the paper's 1 and 2), or peers' attention.

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
        blocks = nn.ModuleList(_map_block(spec, index, j, p) for j, p in enumerate(drop_paths))
        self.blocks = cast(Sequence[nn.Module], blocks)
        self.downsample = _downsample(spec, dim) if downsample else None

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
            dense = spec.carrier_conv == 'dense'
            self.tokenizer = CarrierTokenizer(dim, self.window, carrier_size, spec.carrier_kernel, dense)
        last = len(drop_paths) - 1
        hierarchical = [bool(carrier_size) and (j + 1) % spec.hat_every == 0 for j in range(last + 1)]
        blocks = nn.ModuleList(
            AttentionBlock(
                dim,
                spec.num_heads[index],
                self.window,
                carrier_size if hierarchical[j] else None,
                spec.mlp_ratio,
                drop_path,
                spec.layer_scale,
                propagate=hierarchical[j] and spec.propagation and j == last,
                carrier_window=spec.carrier_window,
                gate=spec.carrier_gate,
                overlap=spec.window_overlap,
            )
            for j, drop_path in enumerate(drop_paths)
        )
        self.blocks = cast(Sequence[AttentionBlock], blocks)
        self.downsample = _downsample(spec, dim) if downsample else None
        self.cache = PositionCache()
        #: Set by an ablation: pool the carriers before every block, add them to the tokens after it.
        self.repools = False

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
        bias_dtype, cache = _compute_dtype(x), self._usable_cache()
        L = x.shape[1] - w * w
        for j, block in enumerate(self.blocks):
            if self.repools and j:
                x = torch.cat(
                    (self._pool(window_unpartition(x[:, L:], w, windows_hw), windows_hw), x[:, L:]), 1
                )
            if L and block.carrier is None:  # the carriers pass unchanged
                tokens, _ = _run_block(self.with_cp, block, x[:, L:], windows_hw, bias_dtype, cache)
                x = torch.cat((x[:, :L], tokens), 1)
            else:
                x, higher = _run_block(self.with_cp, block, x, windows_hw, bias_dtype, cache, higher)
            if self.repools and self.tokenizer is not None:
                up = propagate_carriers(x[:, :L], self.tokenizer.carrier_size, w)
                x = torch.cat((x[:, :L], x[:, L:] + up), 1)
        # (B*nH*nW, L + w*w, C) -> (B, nH*w, nW*w, C) -> (B, C, H, W)
        return window_unpartition(x[:, -w * w :], w, windows_hw)[:, :H, :W].permute(0, 3, 1, 2)

    def _pool(self, x_BHWC: Tensor, windows_hw: tuple[int, int]) -> Tensor:
        """Return the carriers of a padded map by window: (B, nH*w, nW*w, C) -> (B*nH*nW, L, C)."""
        assert self.tokenizer is not None, 'only a stage with carriers pools them'
        return carriers_to_windows(self.tokenizer(x_BHWC), self.tokenizer.carrier_size, windows_hw)

    def train(self, mode: bool = True) -> 'AttentionStage':
        """Set the mode like ``nn.Module.train`` and clear the position cache."""
        self.cache.clear()
        return super().train(mode)

    def _usable_cache(self) -> PositionCache | None:
        """Return the position cache where it may be used: in eager inference."""
        if not is_eager_inference(self):
            return None
        return self.cache.refresh(m for block in self.blocks for m in block.position_modules())


def _map_block(spec: ArchSpec, index: int, j: int, drop_path: float) -> nn.Module:
    dim, heads, window = spec.channels[index], spec.num_heads[index], spec.window_sizes[index]
    if spec.conv[index]:
        return ConvBlock(dim, drop_path)
    if spec.attention == 'twins':
        return TwinsBlock(dim, heads, window, j % 2 == 1, j == 0, spec.mlp_ratio, drop_path)
    return EdgeVitBlock(dim, heads, spec.mlp_ratio, drop_path)


def _downsample(spec: ArchSpec, dim: int) -> Downsample | PatchMerging:
    return Downsample(dim) if spec.downsample == 'conv' else PatchMerging(dim)


def _run_block(with_cp: bool, block: nn.Module, *args: Any) -> Any:
    """Run a block, with gradient checkpointing if asked for and gradients are needed."""
    return recomputed(block, *args) if with_cp and torch.is_grad_enabled() else block(*args)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of a Linear's output for ``x``: autocast's, or that of ``x``."""
    device = x.device.type
    autocast = device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else x.dtype
