"""Carrier tokens: a few per window, pooled from the map; they attend to each other image-wide (paper eq. 3).

Legend: B images, C channels, w tokens and c carriers along a window's side, nH x nW windows, K = c*n carriers
    along n windows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .window import pad_to_windows


def pooling_kernel(w: int, c: int) -> int:
    """Tokens along a side of the area that a carrier averages; w tokens and c carriers along a window."""
    return 2 * w - (2 * c - 1) * (w // c)


def pooling_windows(n: int, w: int, c: int, device: torch.device | None = None) -> tuple[Tensor, int]:
    """Locate the average pooling windows of the carriers along one side.

    The published models have two windows per side and pool with stride ``floor(w/c)``. For n windows the
    kernel size is kept and its positions are spread evenly, which gives the same result at n = 2.

    Args:
        n: windows along the side.
        w: tokens along a window's side.
        c: carriers along a window's side, at most w.
        device: where to create the tensor; a copy from the CPU would synchronize with the GPU in every
            forward pass.

    Returns:
        the first token of each of the n*c pooling windows (int64) and the kernel size.
    """
    kernel = pooling_kernel(w, c)
    # float64, so that exact halves stay exact
    starts = torch.arange(n * c, dtype=torch.float64, device=device) * (n * w - kernel) / max(n * c - 1, 1)
    return starts.round().long(), kernel


def _pooling_matrix(n: int, w: int, c: int, like: Tensor) -> Tensor:
    """Matrix (K, n*w) of the sum pooling along one side: 1 where carrier j pools, else 0."""
    starts, kernel = pooling_windows(n, w, c, like.device)
    start = starts[:, None]
    token = torch.arange(n * w, device=like.device)
    return ((token >= start) & (token < start + kernel)).to(like.dtype)


def pool_carriers(y_BHWC: Tensor, w: int, c: int) -> Tensor:
    """Average a map over the pooling windows of its carriers.

    Args:
        y_BHWC: map (B, nH*w, nW*w, C).
        w: tokens along a window's side.
        c: carriers along a window's side.

    Returns:
        (B, nH*c * nW*c, C), carriers in raster order.
    """
    B, H, W, C = y_BHWC.shape
    if c > w:  # more carriers than tokens: the pooling windows overlap, as torch's adaptive pooling has them
        y = F.adaptive_avg_pool2d(y_BHWC.permute(0, 3, 1, 2), (H // w * c, W // w * c))
        return y.flatten(2).transpose(1, 2)
    kernel = pooling_kernel(w, c)
    # rows: (K_H, H) x (B, H, W*C) -> (B, K_H, W*C); columns: (K_W, W) x (B*K_H, W, C) -> (B*K_H, K_W, C)
    y = _pooling_matrix(H // w, w, c, y_BHWC) @ y_BHWC.reshape(B, H, W * C)
    if y.dtype == torch.float16:  # the sum over a whole window can be too large
        y, kernel = y / kernel, kernel**0.5
    y = _pooling_matrix(W // w, w, c, y) @ y.reshape(-1, W, C)
    return y.reshape(B, -1, C) / kernel**2


def higher_carriers(carriers: Tensor, grid: tuple[int, int], n: int, c: int) -> tuple[Tensor, ...]:
    """Pool carriers of carriers, order by order, until their grid fits into a window.

    The paper proposes this for very large images (section 3.2: "hierarchical in nature").

    Args:
        carriers: (B, N, C) in raster order over ``grid``.
        grid: (rows, columns).
        n: carriers along the side of a window of carriers.
        c: carriers of the next order along that side.

    Returns:
        the carriers of order 2, 3, ..., each (B, K, C) in raster order; none if ``grid`` fits into a window.
    """
    orders = []
    while max(grid) > n:
        map_BHWC = pad_to_windows(carriers.reshape(-1, *grid, carriers.shape[-1]), n)
        carriers = pool_carriers(map_BHWC, n, c)
        grid = (map_BHWC.shape[1] // n * c, map_BHWC.shape[2] // n * c)
        orders.append(carriers)
    return tuple(orders)


class CarrierTokenizer(nn.Module):
    """Depthwise convolution, then average pooling to c x c carriers per window.

    Args:
        dim: channels.
        window: w.
        carrier_size: c.
    """

    def __init__(self, dim: int, window: int, carrier_size: int) -> None:
        super().__init__()
        self.window, self.carrier_size = window, carrier_size
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, nH*w, nW*w, C), padded map -> (B, nH*c * nW*c, C), carriers in raster order."""
        # (B, H, W, C) -> (B, C, H, W) -> (B, H, W, C)
        y = self.conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return pool_carriers(y, self.window, self.carrier_size)


def propagate_carriers(windowed: Tensor, c: int, w: int) -> Tensor:
    """Nearest-upsample each window's carriers to its tokens: (B*nH*nW, c*c, C) -> (B*nH*nW, w*w, C)."""
    C = windowed.shape[-1]
    # (M, c*c, C) -> (M, C, c, c) -> (M, C, w, w) -> (M, w*w, C)
    up = F.interpolate(windowed.transpose(1, 2).reshape(-1, C, c, c), size=(w, w), mode='nearest')
    return up.flatten(2).transpose(1, 2)
