"""Plain-torch layers of FasterViT: nothing here imports an mm package or timm."""

from .attention import Attention, Mlp, TransformerLayer
from .carrier import CarrierTokenizer, propagate_carriers
from .conv import ChannelLayerNorm, ConvBlock, ConvStem, Downsample
from .drop import DropPath
from .hat import AttentionBlock
from .position import AbsolutePosition, RelativeBias
from .position_cache import PositionCache
from .window import (
    carriers_to_windows,
    pad_to_windows,
    window_partition,
    window_unpartition,
    windows_to_carriers,
)

__all__ = [
    'AbsolutePosition',
    'Attention',
    'AttentionBlock',
    'CarrierTokenizer',
    'ChannelLayerNorm',
    'ConvBlock',
    'ConvStem',
    'Downsample',
    'DropPath',
    'Mlp',
    'PositionCache',
    'RelativeBias',
    'TransformerLayer',
    'carriers_to_windows',
    'pad_to_windows',
    'propagate_carriers',
    'window_partition',
    'window_unpartition',
    'windows_to_carriers',
]
