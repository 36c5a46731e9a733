"""Attention block of stages 3 and 4: window attention, hierarchical with carrier tokens (paper section 3.2).

Legend: B images, nH x nW windows of w x w tokens, C channels, c x c carriers per window, L = c*c.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .attention import Attention, TransformerLayer
from .carrier import propagate_carriers
from .inplace import is_eager_inference
from .position import (
    AbsolutePosition,
    AttentionBias,
    Grid,
    PositionMlp,
    PositionModule,
    RelativeBias,
)
from .position_cache import PositionCache, look_up
from .window import (
    carriers_to_windows,
    pad_to_windows,
    window_partition,
    window_unpartition,
    windows_to_carriers,
)


class PositionedLayer(nn.Module):
    """A transformer layer and the positions of its tokens; for the arguments see :class:`AttentionBlock`."""

    position: PositionModule[Tensor]
    bias: PositionModule[AttentionBias]

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.position = AbsolutePosition(dim)
        self.bias = RelativeBias(num_heads)
        self.layer = TransformerLayer(dim, num_heads, mlp_ratio, drop_path, layer_scale)


class CarrierLayer(PositionedLayer):
    """Attention and MLP over all carriers of an image, with their own positions.

    With carriers of higher order it is window attention on the map of the carriers, with the same weights at
    every order: the carriers of the next order attend to each other, then join their windows.

    Args:
        carrier_size: c, carriers of the next order along the side of a window of carriers.
        window: n, carriers along that side; None if the carriers always attend to all.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path: float,
        layer_scale: float | None,
        carrier_size: int,
        window: int | None,
    ) -> None:
        super().__init__(dim, num_heads, mlp_ratio, drop_path, layer_scale)
        self.carrier_size, self.window = carrier_size, window

    @property
    def scale(self) -> nn.Parameter | None:
        """Scale of the attention's branch, which propagation uses too."""
        return self.layer.scale1

    def forward(
        self,
        carriers: Tensor,
        grid: Grid,
        bias_dtype: torch.dtype,
        cache: PositionCache | None,
        higher: Sequence[Tensor] = (),
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer.

        Args:
            carriers: (B, N, C) in raster order over ``grid``.
            grid: (rows, columns).
            bias_dtype: dtype in which attention runs.
            cache: cache of positions, or None to compute them.
            higher: carriers of order 2, 3, ...; see :func:`~.carrier.higher_carriers`.

        Returns:
            ``carriers`` and ``higher``, of the same shapes.
        """
        if not higher:
            positioned = carriers + look_up(cache, self.position, grid, 0, carriers.dtype)
            bias = look_up(cache, self.bias, grid, 0, bias_dtype)
            return _run_layer(self.layer, positioned, bias, groups=1), ()
        assert self.window is not None, 'only windows have carriers of higher order'
        n, c, C = self.window, self.carrier_size, carriers.shape[-1]
        map_BHWC = pad_to_windows(carriers.reshape(-1, *grid, C), n)
        windows_hw = (map_BHWC.shape[1] // n, map_BHWC.shape[2] // n)
        next_grid = (windows_hw[0] * c, windows_hw[1] * c)
        above, beyond = self(higher[0], next_grid, bias_dtype, cache, higher[1:])
        # (B*mH*mW, c*c + n*n, C)
        joined = torch.cat((carriers_to_windows(above, c, windows_hw), window_partition(map_BHWC, n)), 1)
        position = look_up(cache, self.position, (n, n), c * c, joined.dtype)
        bias = look_up(cache, self.bias, (n, n), c * c, bias_dtype)
        joined = _run_layer(self.layer, joined + position, bias, groups=windows_hw[0] * windows_hw[1])
        above = windows_to_carriers(joined[:, : c * c], c, windows_hw)
        map_BHWC = window_unpartition(joined[:, c * c :], n, windows_hw)[:, : grid[0], : grid[1]]
        return map_BHWC.flatten(1, 2), (above, *beyond)


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
        carrier_window: carriers along the side of a window of carriers; None: carriers attend to all.
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
        carrier_window: int | None = None,
    ) -> None:
        arguments = (dim, num_heads, mlp_ratio, drop_path, layer_scale)
        super().__init__(*arguments)
        self.window, self.carrier_size, self.propagate = window, carrier_size, propagate
        self.carrier: CarrierLayer | None = None
        if carrier_size:
            self.carrier = CarrierLayer(*arguments, carrier_size, carrier_window)

    def position_modules(self) -> Iterator[PositionMlp]:
        """Yield the modules whose results a :class:`PositionCache` may keep."""
        for owner in (self, self.carrier):
            if isinstance(owner, PositionedLayer):
                yield from (m for m in (owner.position, owner.bias) if isinstance(m, PositionMlp))

    def forward(
        self,
        joined: Tensor,
        windows_hw: Grid,
        bias_dtype: torch.dtype,
        cache: PositionCache | None = None,
        higher: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the block.

        Args:
            joined: (B*nH*nW, L + w*w, C): each window's L carriers (none without ``carrier_size``), then its
                tokens.
            windows_hw: (nH, nW).
            bias_dtype: dtype in which attention runs.
            cache: cache of positions, or None to compute them.
            higher: carriers of order 2, 3, ... of the images.

        Returns:
            ``joined`` and ``higher``, of the same shapes.
        """
        nH, nW = windows_hw
        grid, c = (self.window, self.window), self.carrier_size or 0
        L = c * c
        positioned = joined + look_up(cache, self.position, grid, L, joined.dtype)
        if self.carrier is not None:
            carriers = windows_to_carriers(joined[:, :L], c, windows_hw)
            carriers, higher = self.carrier(carriers, (nH * c, nW * c), bias_dtype, cache, higher)
            # in place: concatenation would copy every token
            positioned[:, :L] = self.carriers_that_join(carriers_to_windows(carriers, c, windows_hw))
        bias = self.attention_bias(windows_hw, L, bias_dtype, cache)
        joined = _run_layer(self.layer, positioned, bias, groups=nH * nW)
        if self.carrier is None or not self.propagate:
            return joined, higher
        windowed, x = joined.split((L, self.window**2), 1)
        up, scale = propagate_carriers(windowed, c, self.window), self.carrier.scale
        return torch.cat((windowed, x + (up if scale is None else scale * up)), 1), higher

    def carriers_that_join(self, windowed: Tensor) -> Tensor:
        """Carriers by window, (B*nH*nW, L, C) -> what joins the windows; networks of the paper scale it."""
        return windowed

    def attention_bias(
        self, windows_hw: Grid, num_prefix_tokens: int, dtype: torch.dtype, cache: PositionCache | None
    ) -> AttentionBias:
        """Return the bias within windows, of which an image has ``windows_hw``."""
        return look_up(cache, self.bias, (self.window, self.window), num_prefix_tokens, dtype)


def _run_layer(layer: TransformerLayer, x: Tensor, bias: AttentionBias, groups: int) -> Tensor:
    """Run the layer; may overwrite ``x``, which the caller must not use afterwards."""
    if _can_run_inplace(layer, x):
        return layer.forward_inplace(x, bias)
    return layer(x, bias, groups)


def _can_run_inplace(layer: TransformerLayer, x: Tensor) -> bool:
    """Whether :meth:`TransformerLayer.forward_inplace` gives the same result: in eager inference on a CPU."""
    if x.device.type != 'cpu' or not is_eager_inference(layer) or type(layer.attn) is not Attention:
        return False
    return layer.scale1 is None or layer.scale1.dtype == x.dtype  # otherwise the scale promotes the sum
