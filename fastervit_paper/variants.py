"""FasterViT with parts that no released model has: peers' attention (table 5), and proposed improvements."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastervit_backbone.models.arch import ArchSpec, resolve_arch
from fastervit_backbone.models.fastervit import FasterViT
from fastervit_backbone.models.layers.conv import ConvStem, PatchStem
from fastervit_backbone.models.layers.hat import AttentionBlock
from fastervit_backbone.models.layers.position import Grid
from fastervit_backbone.models.layers.position_cache import PositionCache
from fastervit_backbone.models.stages import AttentionStage, ConvStage

from .edgevit import EdgeVitBlock
from .overlap import OverlapAttention, OverlapBias, RelativeBiasWithBorder
from .twins import TwinsBlock


class FasterViTVariant(FasterViT):
    """FasterViT whose parts are exchanged. All but peers' attention start as the base with its weights.

    Args:
        arch: as for :class:`FasterViT`.
        attention: of the stages that are not convolutional: 'hat', or that of 'twins' or 'edgevit' (table 5),
            which have no carriers.
        carrier_kernel: side of the convolution before the carriers are pooled; odd.
        carrier_conv: that convolution is 'depthwise', as in the paper, or 'dense'.
        carrier_gate: scale the carriers that join their windows by a learnt factor per channel, which starts
            at 1.
        window_overlap: tokens of a border around its window to which a token attends as well, through a
            learnt gate per head, which starts at 0.
        hybrid_stem: add a projection of patches of 4x4 pixels to the stem's convolutions, which starts at 0.
        options: of :class:`FasterViT`.

    Raises:
        ValueError: an argument out of range, or one without an effect on this variant.
        TypeError: an unknown argument or arch field.
    """

    def __init__(
        self,
        arch: str | ArchSpec | Mapping[str, Any],
        *,
        attention: Literal['hat', 'twins', 'edgevit'] = 'hat',
        carrier_kernel: int = 3,
        carrier_conv: Literal['depthwise', 'dense'] = 'depthwise',
        carrier_gate: bool = False,
        window_overlap: int = 0,
        hybrid_stem: bool = False,
        **options: Any,
    ) -> None:
        self.attention, self.hybrid_stem = attention, hybrid_stem
        self.carrier_gate, self.window_overlap = carrier_gate, window_overlap
        spec = resolve_arch(arch)
        if attention not in ('hat', 'twins', 'edgevit'):
            raise ValueError(f"attention must be 'hat', 'twins' or 'edgevit', got {attention!r}")
        if attention != 'hat' and any(spec.hat):
            raise ValueError(f'hat={spec.hat}: attention={attention!r} has no carriers')
        if window_overlap < 0:
            raise ValueError(f'window_overlap must be at least 0, got {window_overlap}')
        if window_overlap and (attention != 'hat' or all(spec.conv)):
            raise ValueError(f'window_overlap={window_overlap}: no stage attends within windows')
        if carrier_kernel < 1 or carrier_kernel % 2 == 0:
            raise ValueError(f'carrier_kernel must be odd, got {carrier_kernel}')
        if carrier_conv not in ('depthwise', 'dense'):
            raise ValueError(f"carrier_conv must be 'depthwise' or 'dense', got {carrier_conv!r}")
        if hybrid_stem and spec.stem != 'conv':
            raise ValueError(f'hybrid_stem=True: the stem of this variant is {spec.stem!r}')
        self.out_norm = options.get('out_norm', 'ln')
        super().__init__(arch, **options)
        if isinstance(self.stem, HybridStem):
            self.stem.start_at_zero()
        for stage in self.stages:
            if isinstance(stage, AttentionStage) and stage.tokenizer is not None:
                stage.tokenizer.conv = _grown(stage.tokenizer.conv, carrier_kernel, carrier_conv == 'dense')
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train()

    def make_stem(self) -> ConvStem | PatchStem:
        """See :meth:`FasterViT.make_stem`."""
        if self.hybrid_stem:
            return HybridStem(self.in_chans, self.spec.stem_dim, self.spec.dim)
        return super().make_stem()

    def make_stage(
        self, index: int, drop_paths: tuple[float, ...], downsample: bool, with_cp: bool
    ) -> ConvStage | AttentionStage:
        """See :meth:`FasterViT.make_stage`."""
        if self.spec.conv[index]:
            return super().make_stage(index, drop_paths, downsample, with_cp)
        if self.attention != 'hat':
            kind = TwinsStage if self.attention == 'twins' else EdgeVitStage
            return kind(self.spec, index, drop_paths, downsample, with_cp)
        stage = VariantStage(self.spec, index, drop_paths, downsample, with_cp)
        for block in stage.blocks:
            assert isinstance(block, VariantBlock)
            block.exchange(self.carrier_gate, self.window_overlap)
        return stage

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``, if any, which may be that of the base.

        Raises:
            CheckpointError: see :meth:`FasterViT.init_weights`.
            ValueError: peers' attention, which shares no weights with the base.
        """
        if self.init_cfg is None:
            return
        if self.attention != 'hat':
            raise ValueError(f'attention={self.attention!r}: no published weights fit, leave out init_cfg')
        base = FasterViT(
            self.spec, out_indices=self.out_indices, out_norm=self.out_norm, in_chans=self.in_chans
        )
        base.load_pretrained(self.init_cfg['checkpoint'])
        self.start_from(base)

    def start_from(self, base: FasterViT) -> None:
        """Copy the weights of the base; what it does not have stays as it starts, without an effect."""
        tensors = base.state_dict()
        for name, own in self.state_dict().items():
            if name.endswith('tokenizer.conv.weight'):
                own.copy_(widen_kernel(tensors[name], own.shape))
            elif name in tensors:
                own.copy_(tensors[name])


class VariantBlock(AttentionBlock):
    """Block with a gate of the carriers that join its windows, and windows that overlap."""

    gate: nn.Parameter | None

    def exchange(self, carrier_gate: bool, overlap: int) -> None:
        """Add a gate, where the block has carriers, and a border of ``overlap`` tokens to the windows."""
        attention = self.layer.attn
        dim, heads = attention.proj.in_features, attention.num_heads
        has_gate = carrier_gate and self.carrier is not None
        self.gate = nn.Parameter(torch.ones(dim)) if has_gate else None
        if overlap:
            self.bias = RelativeBiasWithBorder(heads, overlap)
            self.layer.attn = OverlapAttention(dim, heads, self.window, overlap)

    def carriers_that_join(self, windowed: Tensor) -> Tensor:
        """See :meth:`AttentionBlock.carriers_that_join`."""
        return windowed if self.gate is None else self.gate * windowed

    def attention_bias(  # type: ignore[override] # both biases of overlapping windows
        self, windows_hw: Grid, num_prefix_tokens: int, dtype: torch.dtype, cache: PositionCache | None
    ) -> object:
        """See :meth:`AttentionBlock.attention_bias`."""
        bias = super().attention_bias(windows_hw, num_prefix_tokens, dtype, cache)
        return OverlapBias(bias.inner, bias.outer, windows_hw) if isinstance(bias, OverlapBias) else bias


class VariantStage(AttentionStage):
    """Stage of blocks whose parts can be exchanged."""

    block_type = VariantBlock


class TwinsStage(ConvStage):
    """Stage with Twins' blocks, local and global by turns."""

    def make_block(self, spec: ArchSpec, index: int, j: int, drop_path: float) -> nn.Module:
        """See :meth:`ConvStage.make_block`."""
        dim, heads, window = spec.channels[index], spec.num_heads[index], spec.window_sizes[index]
        return TwinsBlock(dim, heads, window, j % 2 == 1, j == 0, spec.mlp_ratio, drop_path)


class EdgeVitStage(ConvStage):
    """Stage with EdgeViT's blocks."""

    def make_block(self, spec: ArchSpec, index: int, j: int, drop_path: float) -> nn.Module:
        """See :meth:`ConvStage.make_block`."""
        return EdgeVitBlock(spec.channels[index], spec.num_heads[index], spec.mlp_ratio, drop_path)


class HybridStem(ConvStem):
    """The two convolutions, and a projection of patches of 4x4 pixels that starts at zero.

    Args:
        in_chans: channels of the image.
        hidden: channels between the two convolutions.
        dim: channels of the output.
    """

    def __init__(self, in_chans: int, hidden: int, dim: int) -> None:
        super().__init__(in_chans, hidden, dim)
        self.patches = nn.Conv2d(in_chans, dim, 4, stride=4)

    def start_at_zero(self) -> None:
        """Let the projection add nothing."""
        for parameter in self.patches.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, dim, ceil(H/4), ceil(W/4))."""
        patches = self.patches(F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4)))
        return super().forward(x) + patches


def _grown(conv: nn.Conv2d, kernel: int, dense: bool) -> nn.Conv2d:
    """Return a convolution with a larger kernel, or over all channels, that starts as ``conv``."""
    dim = conv.in_channels
    grown = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=1 if dense else dim)
    weight = widen_kernel(conv.weight.detach(), grown.weight.shape)
    if weight is None:
        raise ValueError(f'carrier_kernel must be at least {conv.kernel_size[0]}, got {kernel}')
    with torch.no_grad():
        grown.weight.copy_(weight)
        grown.bias.copy_(conv.bias)  # type: ignore[union-attr,arg-type] # it has one
    return grown


def widen_kernel(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """Return a carriers' convolution of another shape that computes the same; None if there is none.

    Args:
        weight: (C, 1, k, k), depthwise, or (C, C, k, k).
        shape: (C, 1, K, K) or (C, C, K, K) with K >= k, K - k even.
    """
    grown = shape[-1] - weight.shape[-1]
    if weight.ndim != 4 or weight.shape[0] != shape[0] or grown < 0 or grown % 2:
        return None
    weight = F.pad(weight, (grown // 2,) * 4)
    if weight.shape[1] == 1 and shape[1] == shape[0]:
        dense = weight.new_zeros(shape)
        channels = torch.arange(shape[0])
        dense[channels, channels] = weight[:, 0]
        weight = dense
    return weight if weight.shape == shape else None
