"""The operators of mmcv's compiled extension that this package's models use, on torchvision's.

Names, arguments and results are those of ``mmcv._ext``: outputs that mmcv allocates are filled in place.
bfloat16 and float16 are computed in float32. :mod:`fastervit_backbone.ops.stand_in` looks the functions up.
"""

import torch
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor
from torch.nn import functional as F

from ..utils.errors import UserError
from .recompute import gradients, wide

#: How to get mmcv's own operators.
COMPILE = 'compile mmcv: rm -rf .venv && make setup OPS=compiled'
_OPS = torch.ops.torchvision


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that non-maximum suppression keeps, best score first.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: boxes that overlap a better one by more are suppressed.
        offset: 0, or 1 for boxes whose last pixel is included.
    """
    boxes = boxes.float()
    if offset:
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), 1)
    # equal scores in the order in which mmcv's own sort leaves them, so that runs are the same bit for bit
    order = scores.sort(0, descending=True)[1]
    ranks = torch.arange(len(scores), 0, -1, dtype=torch.float32, device=scores.device)
    return order[_OPS.nms(boxes[order], ranks, iou_threshold)]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Decay the scores of overlapping boxes instead of suppressing them (Bodla et al., arXiv 1704.04503).

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: (N, 5), filled with the boxes and decayed scores of the first returned indices.
        iou_threshold: for methods 0 and 1.
        sigma: for method 2.
        min_score: boxes whose score falls below are dropped.
        method: 0 suppresses, 1 decays linearly, 2 by a Gaussian.
        offset: 0, or 1 for boxes whose last pixel is included.

    Returns:
        the indices that are kept, in the order of their decayed scores.
    """
    boxes, scores = boxes.float(), scores.float().clone()
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
    remaining = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(remaining):
        best = remaining[scores[remaining].argmax()]
        dets[len(kept)] = torch.cat((boxes[best], scores[best, None])).to(dets.dtype)
        kept.append(best)
        remaining = remaining[remaining != best]
        top_left = torch.maximum(boxes[best, :2], boxes[remaining, :2])
        bottom_right = torch.minimum(boxes[best, 2:], boxes[remaining, 2:])
        inter = (bottom_right - top_left + offset).clamp(min=0).prod(1)
        iou = inter / (areas[best] + areas[remaining] - inter)
        if method == 2:
            decay = torch.exp(-(iou**2) / sigma)
        else:
            decay = torch.where(iou >= iou_threshold, 1 - iou if method == 1 else torch.zeros_like(iou), 1.0)
        scores[remaining] *= decay
        remaining = remaining[scores[remaining] >= min_score]
    return torch.stack(kept) if kept else remaining


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` (K, C, height, width) with the averages of ``input`` (B, C, H, W) over ``rois`` (K, 5).

    Raises:
        UserError: maximum pooling (``pool_mode`` 0).
    """
    if pool_mode == 0:
        raise UserError(f"RoIAlign with pool_mode='max' has no counterpart in torchvision: {COMPILE}")
    maps, size = wide(input), (aligned_height, aligned_width)
    output.copy_(_OPS.roi_align(maps, rois.to(maps), spatial_scale, *size, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input``, of the shape of the forward's input."""
    grad, geometry = wide(grad_output), (aligned_height, aligned_width, *grad_input.shape)
    grad_input.copy_(
        _OPS._roi_align_backward(grad, rois.to(grad), spatial_scale, *geometry, sampling_ratio, aligned)
    )


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``output`` (K, C, height, width) with the maxima of ``input`` over ``rois``, and ``argmax``."""
    maps = wide(input)
    values, indices = _OPS.roi_pool(maps, rois.to(maps), spatial_scale, pooled_height, pooled_width)
    output.copy_(values)
    argmax.copy_(indices)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``, of the shape of the forward's input."""
    grad, geometry = wide(grad_output), (pooled_height, pooled_width, *grad_input.shape)
    grad_input.copy_(_OPS._roi_pool_backward(grad, rois.to(grad), argmax, spatial_scale, *geometry))


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N, C) with the focal loss of logits (Lin et al., arXiv 1708.02002, equation 5).

    Args:
        input: (N, C) logits.
        target: (N,) class of each row; C is background.
        weight: (C,) of each class, or empty.
        output: filled.
        gamma: focusing parameter.
        alpha: weight of the positives, 1 - alpha that of the negatives.
    """
    output.copy_(_focal_loss(input.float(), target, weight.float(), gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with the derivative of each element's loss."""

    def loss(logits: Tensor) -> Tensor:
        return _focal_loss(logits, target, weight.float(), gamma, alpha)

    (grad,) = gradients(loss, [input.float()], torch.ones_like(input, dtype=torch.float32))
    grad_input.copy_(grad)


def _focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    positive = torch.arange(logits.shape[1], device=logits.device) == target[:, None]
    p = logits.sigmoid()
    loss_positive = -alpha * (1 - p) ** gamma * F.logsigmoid(logits)
    loss_negative = -(1 - alpha) * p**gamma * F.logsigmoid(-logits)
    loss = torch.where(positive, loss_positive, loss_negative)
    if weight.numel():
        weight = torch.cat((weight, weight.new_zeros(1)))  # background
        loss = loss * weight[target][:, None]
    return loss
