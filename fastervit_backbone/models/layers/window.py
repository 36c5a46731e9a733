"""Partition maps into windows and back: inverse pairs of pure functions.

Legend: B images, C channels, H x W map, w tokens along a window's side, nH x nW windows, c carriers along a
    window's side.
Windows are ordered image by image, row by row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_windows(x_BHWC: Tensor, w: int) -> Tensor:
    """Zero-pad a map at the bottom and right to a multiple of the window size.

    Args:
        x_BHWC: map (B, H, W, C).
        w: tokens along a window's side.

    Returns:
        (B, nH*w, nW*w, C); the same tensor if no padding is needed. Undone by slicing ``[:, :H, :W]``.
    """
    h, width = x_BHWC.shape[1:3]
    # so that the padded sides are multiples of w for torch.export's symbols, too
    pad_h, pad_w = (h + w - 1) // w * w - h, (width + w - 1) // w * w - width
    if isinstance(h, int) and not pad_h and not pad_w:  # not where torch.export has a symbol: it would fix it
        return x_BHWC
    return F.pad(x_BHWC, (0, 0, 0, pad_w, 0, pad_h))


def window_partition(x_BHWC: Tensor, w: int) -> Tensor:
    """Partition a padded map into windows.

    Args:
        x_BHWC: map (B, nH*w, nW*w, C).
        w: tokens along a window's side.

    Returns:
        (B*nH*nW, w*w, C).
    """
    B, H, W, C = x_BHWC.shape
    # (B, nH, w, nW, w, C) -> (B, nH, nW, w, w, C)
    x = x_BHWC.reshape(B, H // w, w, W // w, w, C).transpose(2, 3)
    return x.reshape(-1, w * w, C)


def window_unpartition(windows: Tensor, w: int, windows_hw: tuple[int, int]) -> Tensor:
    """Merge windows into a map, the inverse of :func:`window_partition`.

    Args:
        windows: (B*nH*nW, w*w, C).
        w: tokens along a window's side.
        windows_hw: (nH, nW).

    Returns:
        map (B, nH*w, nW*w, C).
    """
    nH, nW = windows_hw
    C = windows.shape[-1]
    # (B, nH, nW, w, w, C) -> (B, nH, w, nW, w, C)
    x = windows.reshape(-1, nH, nW, w, w, C).transpose(2, 3)
    return x.reshape(-1, nH * w, nW * w, C)


def carriers_to_windows(carriers: Tensor, c: int, windows_hw: tuple[int, int]) -> Tensor:
    """Reorder an image's carriers from raster order to their windows.

    Args:
        carriers: (B, nH*c * nW*c, C), raster order over the image's carrier grid.
        c: carriers along a window's side.
        windows_hw: (nH, nW).

    Returns:
        (B*nH*nW, c*c, C).
    """
    nH, nW = windows_hw
    return window_partition(carriers.reshape(-1, nH * c, nW * c, carriers.shape[-1]), c)


def windows_to_carriers(windowed: Tensor, c: int, windows_hw: tuple[int, int]) -> Tensor:
    """Reorder windowed carriers to raster order, the inverse of :func:`carriers_to_windows`.

    Args:
        windowed: (B*nH*nW, c*c, C).
        c: carriers along a window's side.
        windows_hw: (nH, nW).

    Returns:
        (B, nH*c * nW*c, C).
    """
    return torch.flatten(window_unpartition(windowed, c, windows_hw), 1, 2)
