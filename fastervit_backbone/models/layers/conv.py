"""Convolutional parts: stems, block of stages 1-2, downsampling, channel LayerNorm (paper section 3.1).

Legend: B images, C channels, H x W map. Maps are (B, C, H, W) and keep their memory format: channels-last in,
    channels-last out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .drop import DropPath
from .inplace import add_residual, gelu, relu


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels at every position of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape, channels-last in memory."""
        # (B, C, H, W) -> (B, H, W, C): free for channels-last memory
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Two strided 3x3 convolutions, each with BatchNorm and ReLU: stride 4.

    Args:
        in_chans: channels of the image.
        hidden: channels between the two convolutions.
        dim: channels of the output.
    """

    def __init__(self, in_chans: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, hidden, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden, eps=1e-4)
        self.conv2 = nn.Conv2d(hidden, dim, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(dim, eps=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, dim, ceil(H/4), ceil(W/4))."""
        x = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(x)))


class PatchStem(nn.Module):
    """Swin's stem: patches of 4x4 pixels as tokens, and a LayerNorm (Liu et al., arXiv 2103.14030).

    Args:
        in_chans: channels of the image.
        dim: channels of the output.
    """

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, 4, stride=4)
        self.norm = ChannelLayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, dim, ceil(H/4), ceil(W/4)); zeros complete the last patches."""
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        return self.norm(self.proj(x))


class PatchMerging(nn.Module):
    """Swin's downsampling: the channels of 2x2 tokens side by side, LayerNorm, and a Linear to half as many.

    Args:
        dim: input channels; the output has twice as many.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2*C, ceil(H/2), ceil(W/2)); zeros complete the last tokens."""
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        # Swin's weights have the tokens column by column: four of (B, C, H/2, W/2) -> (B, 4*C, H/2, W/2)
        x = torch.cat([x[:, :, row::2, col::2] for col in (0, 1) for row in (0, 1)], 1)
        return self.reduction(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Residual pair of 3x3 convolutions (paper equation 1).

    Args:
        dim: channels in and out.
        drop_path: stochastic depth of the residual branch, in [0, 1).
    """

    def __init__(self, dim: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        y = gelu(self.norm1(self.conv1(x)))
        return add_residual(x, self.drop_path(self.norm2(self.conv2(y))))


class Downsample(nn.Module):
    """LayerNorm and a strided 3x3 convolution: halves the size, doubles the channels.

    Args:
        dim: input channels; the output has twice as many.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = ChannelLayerNorm(dim, eps=1e-6)
        self.conv = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2*C, ceil(H/2), ceil(W/2))."""
        return self.conv(self.norm(x))
