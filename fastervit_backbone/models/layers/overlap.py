"""Attention of windows that overlap: keys are the tokens of a window and of a border around it.

Legend: B images, nH x nW windows of w x w tokens, M = B*nH*nW, C channels, h heads, d channels per head, o
    tokens of border, K = w + 2*o, L carriers in front of a window's tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .position import AttentionBias, Grid, OverlapBias
from .window import window_unpartition


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

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, d: int) -> Tensor:
        """Attend as :meth:`Attention.attend`, within the window and with its border."""
        assert isinstance(bias, OverlapBias), 'windows with a border have two biases'
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
