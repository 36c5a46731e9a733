"""Attention block of stages 3 and 4: window attention, hierarchical with carrier tokens (paper section 3.2).

Legend: B images, nH x nW windows of w x w tokens, C channels, c x c carriers per window, L = c*c.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .attention import TransformerLayer
from .carrier import propagate_carriers
from .inplace import is_eager_inference
from .position import AbsolutePosition, Grid, GridBias, PositionMlp, PositionModule, RelativeBias
from .position_cache import PositionCache, look_up
from .window import carriers_to_windows, windows_to_carriers


class PositionedLayer(nn.Module):
    """A transformer layer and the positions of its tokens; for the arguments see :class:`AttentionBlock`."""

    position: PositionModule[Tensor]
    bias: PositionModule[Tensor | GridBias]

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.position = AbsolutePosition(dim)
        self.bias = RelativeBias(num_heads)
        self.layer = TransformerLayer(dim, num_heads, mlp_ratio, drop_path, layer_scale)


class CarrierLayer(PositionedLayer):
    """Attention and MLP over all carriers of an image, with their own positions."""

    def forward(
        self, carriers: Tensor, grid: Grid, bias_dtype: torch.dtype, cache: PositionCache | None
    ) -> Tensor:
        """carriers: (B, N, C) in raster order over ``grid`` (rows, columns) -> same shape."""
        positioned = carriers + look_up(cache, self.position, grid, 0, carriers.dtype)
        return _run_layer(self.layer, positioned, look_up(cache, self.bias, grid, 0, bias_dtype), groups=1)


class AttentionBlock(PositionedLayer):
    """Attention within windows; with carriers, these first attend to each other, then join their windows.

    Args:
        dim: channels.
        num_heads: attention heads.
        window: w, tokens along a window's side.
        carrier_size: c, carriers along a window's side; None for plain window attention.
        mlp_ratio: ratio of the hidden channels of the MLPs to ``dim``.
        drop_path: stochastic depth, in [0, 1).
        layer_scale: initial value of the per-channel scales; None for no scales.
        propagate: add the carriers to their windows' tokens at the end.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int,
        carrier_size: int | None = None,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        propagate: bool = False,
    ) -> None:
        arguments = (dim, num_heads, mlp_ratio, drop_path, layer_scale)
        super().__init__(*arguments)
        self.window, self.carrier_size, self.propagate = window, carrier_size, propagate
        self.carrier = CarrierLayer(*arguments) if carrier_size else None

    def position_modules(self) -> Iterator[PositionMlp]:
        """Yield the modules whose results a :class:`PositionCache` may keep."""
        for owner in (self, self.carrier):
            if owner is not None:
                yield from (m for m in (owner.position, owner.bias) if isinstance(m, PositionMlp))

    def forward(
        self, joined: Tensor, windows_hw: Grid, bias_dtype: torch.dtype, cache: PositionCache | None = None
    ) -> Tensor:
        """Apply the block.

        Args:
            joined: (B*nH*nW, L + w*w, C): each window's L carriers (none without ``carrier_size``), then its
                tokens.
            windows_hw: (nH, nW).
            bias_dtype: dtype in which attention runs.
            cache: cache of positions, or None to compute them.

        Returns:
            same shape as ``joined``.
        """
        nH, nW = windows_hw
        grid, c = (self.window, self.window), self.carrier_size or 0
        L = c * c
        positioned = joined + look_up(cache, self.position, grid, L, joined.dtype)
        if self.carrier is not None:
            carriers = windows_to_carriers(joined[:, :L], c, windows_hw)
            carriers = self.carrier(carriers, (nH * c, nW * c), bias_dtype, cache)
            # in place: concatenation would copy every token
            positioned[:, :L] = carriers_to_windows(carriers, c, windows_hw)
        bias = look_up(cache, self.bias, grid, L, bias_dtype)
        joined = _run_layer(self.layer, positioned, bias, groups=nH * nW)
        if self.carrier is None or not self.propagate:
            return joined
        windowed, x = joined.split((L, self.window**2), 1)
        up, scale = propagate_carriers(windowed, c, self.window), self.carrier.layer.scale1
        return torch.cat((windowed, x + (up if scale is None else scale * up)), 1)


def _run_layer(layer: TransformerLayer, x: Tensor, bias: Tensor | GridBias, groups: int) -> Tensor:
    """Run the layer; may overwrite ``x``, which the caller must not use afterwards."""
    if _can_run_inplace(layer, x):
        return layer.forward_inplace(x, bias)
    return layer(x, bias, groups)


def _can_run_inplace(layer: TransformerLayer, x: Tensor) -> bool:
    """Whether :meth:`TransformerLayer.forward_inplace` gives the same result: in eager inference on a CPU."""
    if x.device.type != 'cpu' or not is_eager_inference(layer):
        return False
    return layer.scale1 is None or layer.scale1.dtype == x.dtype  # otherwise the scale promotes the sum
