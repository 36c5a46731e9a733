"""Multi-head attention with an additive bias, MLP, and the pre-norm layer of both (paper equations 4-6).

Legend: B sequences, N tokens, C channels, h heads, d = C/h channels per head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .drop import DropPath
from .inplace import add_residual, gelu
from .position import AttentionBias, GridBias

#: CUDA's memory-efficient attention needs a multiple of this many channels per head.
HEAD_MULTIPLE = 8
#: Bytes of an MLP's hidden layer per chunk of ``forward_inplace``; 2**24 was the fastest on a Xeon.
CHUNK_BYTES = 2**24


class Attention(nn.Module):
    """Softmax attention over a whole sequence with ``scaled_dot_product_attention``.

    Args:
        dim: channels; a multiple of ``num_heads``.
        num_heads: heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BNC: Tensor, bias: AttentionBias) -> Tensor:
        """Apply attention.

        Args:
            x_BNC: tokens (B, N, C).
            bias: (1, h, N, N), added to the scaled products of queries and keys, or a :class:`GridBias` that
                yields it in chunks.

        Returns:
            (B, N, C).
        """
        B, N, C = x_BNC.shape
        # (B, N, 3*C) -> (B, N, 3, h, d) -> (3, B, h, N, d)
        qkv = self.qkv(x_BNC).reshape(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        d = qkv.shape[-1]
        if d % HEAD_MULTIPLE and _needs_aligned_heads(qkv):
            qkv = F.pad(
                qkv, (0, -d % HEAD_MULTIPLE)
            )  # zeros change no product; the extra outputs are cut off below
        q, k, v = qkv.unbind(0)
        out_BhNd = self.attend(q, k, v, bias, d)
        # (B, h, N, d) -> (B, N, h*d)
        return self.proj(out_BhNd[..., :d].transpose(1, 2).reshape(B, N, C))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias, d: int) -> Tensor:
        """Attend with queries (B, h, N, d'), keys and values (B, h, K, d') and a scale of ``d**-0.5``."""

        def attend(queries: Tensor, mask: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(queries, k, v, attn_mask=mask.to(q.dtype), scale=d**-0.5)

        if isinstance(bias, Tensor):
            return attend(q, bias)
        assert isinstance(bias, GridBias), 'only windows with a border have an OverlapBias'
        return torch.cat([attend(q[:, :, start:end], chunk) for start, end, chunk in bias.chunks()], 2)


def _needs_aligned_heads(x: Tensor) -> bool:
    """Whether fused kernels on this device need a multiple of 8 channels per head (arch 4 has 49)."""
    return x.is_cuda


class Mlp(nn.Module):
    """Two linear layers with an exact GELU in between.

    Args:
        dim: input and output channels.
        hidden: hidden channels.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> same shape."""
        return self.fc2(gelu(self.fc1(x)))


class TransformerLayer(nn.Module):
    """``x += g1 * attention(LN(x))``, then ``x += g2 * MLP(LN(x))``.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: ratio of the MLP's hidden channels to ``dim``.
        drop_path: stochastic depth of both branches, in [0, 1).
        layer_scale: initial value of g1 and g2, one learnable scale per channel; None omits them (1).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)
        self.scale1 = None if layer_scale is None else nn.Parameter(torch.full((dim,), float(layer_scale)))
        self.scale2 = None if layer_scale is None else nn.Parameter(torch.full((dim,), float(layer_scale)))

    def forward(self, x_BNC: Tensor, bias: AttentionBias, groups: int = 1) -> Tensor:
        """x_BNC: (B, N, C); bias: see :class:`Attention`; groups: sequences per image -> (B, N, C)."""
        y = self.attn(self.norm1(x_BNC), bias)
        x_BNC = add_residual(x_BNC, self.drop_path(y if self.scale1 is None else self.scale1 * y, groups))
        y = self.mlp(self.norm2(x_BNC))
        return add_residual(x_BNC, self.drop_path(y if self.scale2 is None else self.scale2 * y, groups))

    def forward_inplace(self, x_BNC: Tensor, bias: AttentionBias) -> Tensor:
        """Run :meth:`forward` for inference and write the result into ``x_BNC``.

        A few sequences at a time: intermediate results stay in the processor's cache, and this avoids large
            allocations (whose page
        faults take longer than the arithmetic of a GELU).
        """
        bytes_per_sequence = self.mlp.fc1.weight.shape[0] * x_BNC.shape[1] * x_BNC.element_size()
        for x in x_BNC.split(max(1, CHUNK_BYTES // bytes_per_sequence)):
            y = self.attn(self.norm1(x), bias)
            x += y if self.scale1 is None else self.scale1 * y
            y = self.mlp(self.norm2(x))
            x += y if self.scale2 is None else self.scale2 * y
        return x_BNC
