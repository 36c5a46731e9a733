"""Convolution at some places of a map (Guided Anchoring), under the names and arguments of ``mmcv._ext``."""

import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    input: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    columns: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill ``columns`` (C * kernel_h * kernel_w, K) with areas of ``input`` (1, C, H, W) around K places."""
    padded = F.pad(input[0], (pad_w, pad_w, pad_h, pad_h))
    areas = padded.unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)[:, mask_h_idx, mask_w_idx]
    # (C, K, kernel_h, kernel_w) -> (C, kernel_h, kernel_w, K)
    columns.copy_(areas.permute(0, 2, 3, 1).reshape(columns.shape))


def masked_col2im_forward(
    columns: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    output: Tensor,
    *,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write ``columns`` (channels, K) to K places of ``output`` (1, channels, height, width)."""
    output[0, :, mask_h_idx, mask_w_idx] = columns
