"""EdgeViT's local-global-local block, in place of hierarchical attention (paper table 5).

Source: Pan et al., "EdgeViTs", arXiv 2205.03436, section 3.2.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fastervit_backbone.models.layers.attention import Mlp
from fastervit_backbone.models.layers.drop import DropPath


class SparseAttention(nn.Module):
    """Attention between every ``ratio``-th token, spread to its neighbors by a transposed convolution.

    Args:
        dim: channels.
        num_heads: heads.
        ratio: distance of the sampled tokens.
    """

    def __init__(self, dim: int, num_heads: int, ratio: int) -> None:
        super().__init__()
        self.num_heads, self.ratio = num_heads, ratio
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.spread = nn.ConvTranspose2d(dim, dim, ratio, stride=ratio, groups=dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> same shape."""
        B, H, W, C = x_BHWC.shape
        sampled = x_BHWC[:, :: self.ratio, :: self.ratio]
        h, w = sampled.shape[1:3]
        q, k, v = self.qkv(sampled).reshape(B, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, h, w, C)
        x = self.spread(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[:, :H, :W]
        return self.proj(self.norm(x))


class EdgeVitBlock(nn.Module):
    """Local aggregation by convolutions, then sparse global attention, each with positions; then an MLP.

    EdgeViT has a second MLP after the aggregation. The paper compares kinds of attention, and its count of
    multiply-adds fits one MLP a block.

    Args:
        dim: channels.
        num_heads: heads.
        mlp_ratio: ratio of the MLP's hidden channels to ``dim``.
        drop_path: stochastic depth, in [0, 1).
        ratio: distance of the tokens that attend to each other.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float, ratio: int = 2) -> None:
        super().__init__()
        self.position1, self.position2 = (nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.aggregate = nn.Sequential(
            nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 5, padding=2, groups=dim), nn.Conv2d(dim, dim, 1)
        )
        self.attn = SparseAttention(dim, num_heads, ratio)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        x_BHWC = (x + self.position1(x)).permute(0, 2, 3, 1)
        y = self.aggregate(self.norms[0](x_BHWC).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self.drop_path(y)
        x = x_BHWC.permute(0, 3, 1, 2)
        x_BHWC = (x + self.position2(x)).permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self.drop_path(self.attn(self.norms[1](x_BHWC)))
        x_BHWC = x_BHWC + self.drop_path(self.mlp(self.norms[2](x_BHWC)))
        return x_BHWC.permute(0, 3, 1, 2)
