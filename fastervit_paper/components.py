"""Remove a component of hierarchical attention from a model (paper table S.1).

The same function serves both columns of the table: removed after training, and as a start for training.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fastervit_backbone.models.fastervit import FasterViT
from fastervit_backbone.models.layers.carrier import propagate_carriers
from fastervit_backbone.models.layers.hat import AttentionBlock, CarrierLayer
from fastervit_backbone.models.layers.position import Grid
from fastervit_backbone.models.layers.position_cache import PositionCache
from fastervit_backbone.models.layers.window import carriers_to_windows, window_unpartition
from fastervit_backbone.models.stages import AttentionStage, compute_dtype

from .overlap import OverlapAttention


def ablate(net: FasterViT, what: str) -> FasterViT:
    """Remove a component, in place.

    Args:
        net: the backbone.
        what: one of :data:`ABLATIONS`.

    Returns:
        ``net``.

    Raises:
        ValueError: an unknown component, or one that the variant does not have.
    """
    if what not in ABLATIONS:
        raise ValueError(f'no component {what!r}: choose one of {", ".join(ABLATIONS)}')
    if what not in ('bias', 'position') and not any(stage.tokenizer is not None for stage in _stages(net)):
        raise ValueError(f'{what}: this variant has no carriers')
    for stage in _stages(net):
        ABLATIONS[what](stage)
        stage.cache.clear()
    return net


class RepoolingStage(AttentionStage):
    """Carriers are pooled before every block and added to the tokens after it."""

    def run_blocks(self, x: Tensor, windows_hw: Grid, higher: tuple[Tensor, ...]) -> Tensor:
        """See :meth:`AttentionStage.run_blocks`."""
        assert self.tokenizer is not None, 'only a stage with carriers pools them'
        bias_dtype, cache = compute_dtype(x), self.usable_cache()
        w, c = self.window, self.tokenizer.carrier_size
        L = c * c
        for j, block in enumerate(self.blocks):
            if j:
                # (B*nH*nW, w*w, C) -> (B, nH*w, nW*w, C) -> (B, nH*c * nW*c, C) -> (B*nH*nW, L, C)
                pooled = self.tokenizer(window_unpartition(x[:, L:], w, windows_hw))
                x = torch.cat((carriers_to_windows(pooled, c, windows_hw), x[:, L:]), 1)
            x, higher = self.run_block(block, x, windows_hw, bias_dtype, cache, higher)
            up = propagate_carriers(x[:, :L], c, w)
            x = torch.cat((x[:, :L], x[:, L:] + up), 1)
        return x


class NoPosition(nn.Module):
    """Zero in place of a position or attention bias.

    Args:
        bias: the zero is an attention bias, else a position.
    """

    zero: Tensor

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.register_buffer('zero', torch.zeros((1,) * (4 if bias else 3)), persistent=False)

    def forward(self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> Tensor:
        """Return a zero that is broadcast: (1, 1, 1, 1) as a bias, (1, 1, 1) as a position."""
        return self.zero.to(dtype)


class StillCarriers(nn.Module):
    """In place of a CarrierLayer: the carriers of an image do not attend to each other.

    Args:
        scale: of the layer that it replaces, for propagation.
    """

    def __init__(self, scale: nn.Parameter | None) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self,
        carriers: Tensor,
        grid: Grid,
        bias_dtype: torch.dtype,
        cache: PositionCache | None,
        higher: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return ``carriers`` and ``higher``."""
        return carriers, higher


def _stages(net: FasterViT) -> Iterator[AttentionStage]:
    return (stage for stage in net.stages if isinstance(stage, AttentionStage))


def _owners(stage: AttentionStage) -> Iterator[AttentionBlock | CarrierLayer]:
    for block in stage.blocks:
        yield block
        if isinstance(block.carrier, CarrierLayer):
            yield block.carrier


def _remove_bias(stage: AttentionStage) -> None:
    for owner in _owners(stage):
        if isinstance(owner.layer.attn, OverlapAttention):
            raise ValueError('bias: windows with window_overlap have two biases, which stay')
        owner.bias = NoPosition(bias=True)  # type: ignore[assignment]


def _remove_position(stage: AttentionStage) -> None:
    for owner in _owners(stage):
        owner.position = NoPosition(bias=False)  # type: ignore[assignment]


def _remove_carrier_attention(stage: AttentionStage) -> None:
    for block in stage.blocks:
        if isinstance(block.carrier, CarrierLayer):
            block.carrier = StillCarriers(block.carrier.scale)  # type: ignore[assignment]


def _remove_carrier_conv(stage: AttentionStage) -> None:
    if stage.tokenizer is not None:
        stage.tokenizer.conv = nn.Identity()  # type: ignore[assignment] # the only other module there


def _remove_carriers(stage: AttentionStage) -> None:
    stage.tokenizer = None
    for block in stage.blocks:
        block.carrier, block.carrier_size, block.propagate = None, None, False


def _repool(stage: AttentionStage) -> None:
    if stage.tokenizer is not None:
        stage.__class__ = RepoolingStage  # of the same attributes


#: Component -> what removes it from a stage.
#: 'hat': no carriers at all.
#: 'carrier_attention': carriers join their windows but do not attend to each other.
#: 'bias', 'position': the two kinds of positions, of tokens and carriers.
#: 'propagation': carriers are not kept from block to block but pooled before every block and added to the
#: tokens after it.
#: 'carrier_conv': carriers start as plain averages.
ABLATIONS: dict[str, Callable[[AttentionStage], None]] = {
    'hat': _remove_carriers,
    'carrier_attention': _remove_carrier_attention,
    'bias': _remove_bias,
    'propagation': _repool,
    'position': _remove_position,
    'carrier_conv': _remove_carrier_conv,
}
