"""Twins' attention, local and global by turns, in place of hierarchical attention (paper table 5).

Source: Chu et al., "Twins", arXiv 2104.13840, sections 3.2 and 3.1 (position encoding by convolution).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fastervit_backbone.models.layers.attention import Mlp
from fastervit_backbone.models.layers.drop import DropPath
from fastervit_backbone.models.layers.window import pad_to_windows, window_partition, window_unpartition


class WindowAttention(nn.Module):
    """Attention within windows, without positions.

    Args:
        dim: channels.
        num_heads: heads.
        window: tokens along a window's side.
    """

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> same shape."""
        H, W, w = *x_BHWC.shape[1:3], self.window
        padded = pad_to_windows(x_BHWC, w)
        x = window_partition(padded, w)
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = window_unpartition(x, w, (padded.shape[1] // w, padded.shape[2] // w))
        return self.proj(x[:, :H, :W])


class SubsampledAttention(nn.Module):
    """Attention of all tokens to one summary per area of ``ratio`` x ``ratio`` tokens.

    Args:
        dim: channels.
        num_heads: heads.
        ratio: side of the areas, tokens.
    """

    def __init__(self, dim: int, num_heads: int, ratio: int) -> None:
        super().__init__()
        self.num_heads, self.ratio = num_heads, ratio
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.subsample = nn.Conv2d(dim, dim, ratio, stride=ratio)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> same shape."""
        B, H, W, C = x_BHWC.shape
        padded = pad_to_windows(x_BHWC, self.ratio)
        summary = self.norm(self.subsample(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        q = self.q(x_BHWC).reshape(B, H * W, self.num_heads, -1).transpose(1, 2)
        k, v = self.kv(summary).reshape(B, -1, 2, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(x.reshape(B, H, W, C))


class TwinsBlock(nn.Module):
    """Pre-norm block with local or global attention; the first of a stage also encodes positions.

    Args:
        dim: channels.
        num_heads: heads.
        window: tokens along the side of a window.
        is_global: attend to summaries of the whole map, else within windows.
        encodes: add a depthwise convolution of the map after the block, which encodes positions.
        mlp_ratio: ratio of the MLP's hidden channels to ``dim``.
        drop_path: stochastic depth, in [0, 1).
        ratio: side of the areas that are summarized, tokens.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int,
        is_global: bool,
        encodes: bool,
        mlp_ratio: float,
        drop_path: float,
        ratio: int = 2,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn: nn.Module
        if is_global:
            self.attn = SubsampledAttention(dim, num_heads, ratio)
        else:
            self.attn = WindowAttention(dim, num_heads, window)
        self.mlp, self.drop_path = Mlp(dim, int(dim * mlp_ratio)), DropPath(drop_path)
        self.encode = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if encodes else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        x_BHWC = x.permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self.drop_path(self.attn(self.norm1(x_BHWC)))
        x_BHWC = x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))
        x = x_BHWC.permute(0, 3, 1, 2)
        return x if self.encode is None else x + self.encode(x)
