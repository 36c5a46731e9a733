"""Remove a component of hierarchical attention from a model (paper table S.1).

The same function serves both columns of the table: removed after training, and as a start for training.
"""

from collections.abc import Callable, Iterator

from torch import nn

from .fastervit import FasterViT
from .layers.hat import AttentionBlock, CarrierLayer, StillCarriers
from .layers.overlap import OverlapAttention
from .layers.position import NoPosition
from .stages import AttentionStage


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
        owner.bias = NoPosition(bias=True)


def _remove_position(stage: AttentionStage) -> None:
    for owner in _owners(stage):
        owner.position = NoPosition(bias=False)


def _remove_carrier_attention(stage: AttentionStage) -> None:
    for block in stage.blocks:
        if isinstance(block.carrier, CarrierLayer):
            block.carrier = StillCarriers(block.carrier.scale)


def _remove_carrier_conv(stage: AttentionStage) -> None:
    if stage.tokenizer is not None:
        stage.tokenizer.conv = nn.Identity()  # type: ignore[assignment] # the only other module there


def _remove_carriers(stage: AttentionStage) -> None:
    stage.tokenizer = None
    for block in stage.blocks:
        block.carrier, block.carrier_size, block.propagate = None, None, False


def _repool(stage: AttentionStage) -> None:
    stage.repools = stage.tokenizer is not None


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
