"""The attention block of stages 3 and 4: window attention, hierarchical where carrier tokens are in use (paper section 3.2).

Legend: B images, nH x nW windows of w x w tokens, C channels, c x c carriers a window.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .attention import TransformerLayer
from .carrier import propagate_carriers
from .position import AbsolutePosition, FixedPosition, Grid, GridBias, PositionMlp, RelativeBias
from .position_cache import PositionCache
from .window import carriers_to_windows, windows_to_carriers


class CarrierLayer(nn.Module):
    """Attention and MLP among all carriers of an image, with their own positions.

    Args: as :class:`AttentionBlock`.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.position = AbsolutePosition(dim)
        self.bias = RelativeBias(num_heads)
        self.layer = TransformerLayer(dim, num_heads, mlp_ratio, drop_path, layer_scale)

    def forward(
        self, carriers: Tensor, grid: Grid, bias_dtype: torch.dtype, cache: PositionCache | None
    ) -> Tensor:
        """carriers: (B, N, C) in raster order over ``grid`` (rows, columns) -> same shape."""
        carriers = carriers + _look_up(cache, self.position, grid, 0, carriers.dtype)
        return _run(self.layer, carriers, _look_up(cache, self.bias, grid, 0, bias_dtype), 1)


class AttentionBlock(nn.Module):
    """Attention within windows; with carriers, these first attend to each other, then join their windows.

    Args:
        dim: channels.
        num_heads: attention heads.
        window: w, tokens along a window's side.
        carrier_size: c, carriers along a window's side; None for plain window attention.
        mlp_ratio: hidden channels of the MLPs over ``dim``.
        drop_path: stochastic depth, in [0, 1).
        layer_scale: start value of the per-channel scales; None for none.
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
        super().__init__()
        self.window, self.carrier_size, self.propagate = window, carrier_size, propagate
        self.position = AbsolutePosition(dim)
        self.bias = RelativeBias(num_heads)
        self.layer = TransformerLayer(dim, num_heads, mlp_ratio, drop_path, layer_scale)
        self.carrier = (
            CarrierLayer(dim, num_heads, mlp_ratio, drop_path, layer_scale) if carrier_size else None
        )

    def position_modules(self) -> Iterator[PositionMlp]:
        """The modules whose results a :class:`PositionCache` may keep."""
        owners = (self,) if self.carrier is None else (self, self.carrier)
        yield from (m for owner in owners for m in (owner.position, owner.bias) if isinstance(m, PositionMlp))

    def forward(
        self, joined: Tensor, windows_hw: Grid, bias_dtype: torch.dtype, cache: PositionCache | None = None
    ) -> Tensor:
        """One block.

        Args:
            joined: (B*nH*nW, L + w*w, C): each window's L = c*c carriers (none without ``carrier_size``), then its tokens.
            windows_hw: (nH, nW).
            bias_dtype: dtype in which attention runs.
            cache: where positions are kept, or None to compute them.

        Returns:
            shape as given.
        """
        nH, nW = windows_hw
        grid, c = (self.window, self.window), self.carrier_size or 0
        num_prefix_tokens = c * c
        positioned = joined + _look_up(cache, self.position, grid, num_prefix_tokens, joined.dtype)
        if self.carrier is not None:
            carriers = windows_to_carriers(joined[:, :num_prefix_tokens], c, windows_hw)
            carriers = self.carrier(carriers, (nH * c, nW * c), bias_dtype, cache)
            positioned[:, :num_prefix_tokens] = carriers_to_windows(
                carriers, c, windows_hw
            )  # in place: joining copies every token
        joined = _run(
            self.layer, positioned, _look_up(cache, self.bias, grid, num_prefix_tokens, bias_dtype), nH * nW
        )
        if not self.propagate:
            return joined
        windowed, x = joined.split((num_prefix_tokens, self.window**2), 1)
        up, scale = propagate_carriers(windowed, c, self.window), self.carrier.layer.scale1
        return torch.cat((windowed, x + (up if scale is None else scale * up)), 1)


def _run(layer: TransformerLayer, fresh: Tensor, bias: Tensor | GridBias, groups: int) -> Tensor:
    """The layer; in inference on a CPU in the memory of ``fresh``, a tensor of ours."""
    in_place = (
        layer.scale1 is None or layer.scale1.dtype == fresh.dtype
    )  # else the scale makes another dtype of the sum
    in_place = (
        in_place
        and fresh.device.type == 'cpu'
        and not (layer.training or torch.is_grad_enabled() or torch.compiler.is_compiling())
    )
    return (
        layer.forward_inplace(fresh, bias)
        if in_place and not torch.jit.is_tracing()
        else layer(fresh, bias, groups)
    )


def _look_up(
    cache: PositionCache | None,
    module: PositionMlp | FixedPosition,
    grid: Grid,
    num_prefix_tokens: int,
    dtype: torch.dtype,
) -> Tensor | GridBias:
    kept = cache is not None and isinstance(module, PositionMlp)
    return (
        cache.get(module, grid, num_prefix_tokens, dtype) if kept else module(grid, num_prefix_tokens, dtype)
    )
