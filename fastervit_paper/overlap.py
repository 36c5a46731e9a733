"""Attention of windows that overlap: keys are the tokens of a window and of a border around it.

Legend: B images, nH x nW windows of w x w tokens, M = B*nH*nW, C channels, h heads, d channels per head, o
    tokens of border, K = w + 2*o, L carriers in front of a window's tokens.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastervit_backbone.models.layers.attention import Attention
from fastervit_backbone.models.layers.position import Grid, GridBias, RelativeBias
from fastervit_backbone.models.layers.window import window_unpartition


@dataclass(frozen=True)
class OverlapBias:
    """Attention biases of windows with a border of o tokens.

    Attributes:
        inner: (1, h, L+w*w, L+w*w), of the keys within the window.
        outer: (1, h, L+w*w, L+(w+2*o)**2), of the keys with the border.
        windows_hw: (nH, nW), the windows of an image.
    """

    inner: Tensor | GridBias
    outer: Tensor
    windows_hw: Grid = (1, 1)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.inner.nbytes + self.outer.nbytes


class RelativeBiasWithBorder(RelativeBias):
    """The bias within a window, and that of keys in its border.

    Args:
        num_heads: heads.
        overlap: o.
    """

    def __init__(self, num_heads: int, overlap: int) -> None:
        super().__init__(num_heads)
        self.overlap = overlap

    def forward(  # type: ignore[override] # both biases
        self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype
    ) -> OverlapBias:
        """See :meth:`RelativeBias.forward`."""
        inner = super().forward(grid, num_prefix_tokens, dtype)
        return OverlapBias(inner, self._outer(grid, num_prefix_tokens).to(dtype))

    def _outer(self, grid: Grid, num_prefix_tokens: int) -> Tensor:
        """Bias of the keys of a window with its border; the MLP sees offsets beyond the window's side."""
        table, o = self.table(grid, self.overlap), self.overlap
        # query - key for keys from -o to n+o-1, as an index of the table, which starts at -(n+o-1)
        rows, cols = (
            torch.arange(n, device=table.device)[:, None]
            + torch.arange(n + 2 * o, device=table.device).flip(0)
            for n in grid
        )
        # (rows, 1, rows+2*o, 1) and (cols, 1, cols+2*o) -> (h, rows, cols, rows+2*o, cols+2*o)
        bias = table[:, rows[:, None, :, None], cols[:, None, :]]
        bias = bias.reshape(len(table), grid[0] * grid[1], -1)
        return F.pad(bias, (num_prefix_tokens, 0, num_prefix_tokens, 0))[None]


class OverlapAttention(Attention):
    """``a + gate * (b - a)``: a attends within the window, b also to the border of the window.

    The gate starts at 0, so that weights of windows without a border compute the same. Beyond the edge of the
    map, keys and values are zero.

    Args:
        dim: channels; a multiple of ``num_heads``.
        num_heads: heads.
        window: w.
        overlap: o.
    """

    def __init__(self, dim: int, num_heads: int, window: int, overlap: int) -> None:
        super().__init__(dim, num_heads)
        self.window, self.overlap = window, overlap
        self.gate = nn.Parameter(torch.zeros(num_heads))

    def attend(  # type: ignore[override] # both biases
        self, q: Tensor, k: Tensor, v: Tensor, bias: OverlapBias, d: int
    ) -> Tensor:
        """Attend as :meth:`Attention.attend`, within the window and with its border."""
        a = super().attend(q, k, v, bias.inner, d)
        k, v = (self._with_border(x, bias.windows_hw) for x in (k, v))
        b = super().attend(q, k, v, bias.outer, d)
        return a + self.gate.to(a.dtype)[:, None, None] * (b - a)

    def _with_border(self, x: Tensor, windows_hw: Grid) -> Tensor:
        """(M, h, L + w*w, d) -> (M, h, L + K*K, d)."""
        w, o = self.window, self.overlap
        M, h, N, d = x.shape
        L, K = N - w * w, w + 2 * o
        tokens = x[:, :, L:].transpose(1, 2).reshape(M, w * w, h * d)
        map_BHWC = F.pad(window_unpartition(tokens, w, windows_hw), (0, 0, o, o, o, o))
        # (B, nH, nW, h*d, K, K) -> (M, h, d, K*K) -> (M, h, K*K, d)
        keys = map_BHWC.unfold(1, K, w).unfold(2, K, w).reshape(M, h, d, K * K).transpose(2, 3)
        return torch.cat((x[:, :, :L], keys), 2)
