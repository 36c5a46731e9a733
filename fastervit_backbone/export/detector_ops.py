"""Steps of detectors with fixed shapes: what a model computes with lists of any length, in padded tensors."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor, nn

from ..utils.errors import UserError

#: Candidates of (box, class) that the last suppression gets: the best ones. mmdet's have no such limit.
MOST_CANDIDATES = 4096
_OPS = torch.ops.torchvision


def decode_boxes(coder: Any, boxes: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
    """Move and scale boxes by a head's outputs (Ren et al., arXiv 1506.01497, equation 2).

    Args:
        coder: mmdet's DeltaXYWHBBoxCoder, whose means and deviations are used.
        boxes: (..., 4) x1, y1, x2, y2.
        deltas: (..., 4).
        size: (height, width) that the results are clipped to.

    Raises:
        UserError: another coder.
    """
    if type(coder).__name__ != 'DeltaXYWHBBoxCoder' or coder.add_ctr_clamp or not coder.clip_border:
        raise UserError(f'export knows DeltaXYWHBBoxCoder with clip_border only, not {coder}')
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    limit = abs(math.log(16 / 1000))  # mmdet's default wh_ratio_clip, which decode() always uses
    center, extent = (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]
    center = center + extent * deltas[..., :2]
    half = extent * deltas[..., 2:].clamp(-limit, limit).exp() * 0.5
    bounds = deltas.new_tensor((size[1], size[0]))
    corners = torch.cat((center - half, center + half), -1).clamp(min=0)
    return torch.minimum(corners, torch.cat((bounds, bounds)))


def suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression within groups that returns a fixed number of indices.

    Args:
        boxes: (N, 4).
        scores: (N,), above 0 where valid.
        groups: (N,), integers: boxes of different groups (classes, levels) do not suppress each other.
        valid: (N,), bool: the others are never returned as valid.
        iou_threshold: boxes that overlap a better one by more are suppressed.
        count: number of returned indices.

    Returns:
        (count,) indices, best score first, and (count,) bool: whether each is one; the rest is padding.
    """
    inside = torch.where(valid[:, None], boxes, torch.zeros_like(boxes))
    shifted = inside + (groups.to(boxes) * (inside.max() + 1))[:, None]
    # all invalid ones at one place apart from the others, so that the first of them suppresses the rest
    apart = boxes.new_tensor((-4.0, -4.0, -2.0, -2.0))
    shifted = torch.where(valid[:, None], shifted, apart)
    kept = _OPS.nms(shifted, torch.where(valid, scores, torch.zeros_like(scores)), iou_threshold)
    number = kept.shape[0]
    index = torch.cat((kept, kept.new_zeros(count)))[:count]
    return index, (torch.arange(count, device=boxes.device) < number) & valid[index]


def pool_regions(extractor: Any, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
    """RoIAlign of every box on the level of its size (Lin et al., arXiv 1612.03144, equation 1).

    Args:
        extractor: mmdet's SingleRoIExtractor.
        maps: the pyramid, (B, C, H_l, W_l).
        boxes: (N, 4), pixels of the images.
        image_index: (N,), float: the image of each box.

    Returns:
        (N, C, S, S). On all levels but its own a box is a point, for which RoIAlign takes no sample.
    """
    scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = torch.floor(torch.log2(scale / extractor.finest_scale + 1e-6)).clamp(
        0, len(extractor.roi_layers) - 1
    )
    regions: list[Tensor] = []
    for i, layer in enumerate(extractor.roi_layers):
        own = (level == i)[:, None]
        rois = torch.cat((image_index[:, None], torch.where(own, boxes, torch.zeros_like(boxes))), 1)
        size, ratio = layer.output_size, layer.sampling_ratio
        pooled = _OPS.roi_align(maps[i], rois, layer.spatial_scale, *size, ratio, layer.aligned)
        regions.append(torch.where(own[:, :, None, None], pooled, torch.zeros_like(pooled)))
    return torch.stack(regions).sum(0)


def best_classes(scores: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Choose the best pairs of box and class.

    Args:
        scores: (N, C).
        threshold: pairs must be above.

    Returns:
        index of the box, label, score and whether it is above the threshold, each (M,) with M at most
        :data:`MOST_CANDIDATES`.
    """
    flat = scores.flatten()
    values, index = flat.topk(min(len(flat), MOST_CANDIDATES))
    classes = scores.shape[1]
    return index // classes, index % classes, values, values > threshold


class GatheredAttention(nn.Module):
    """mmcv's MultiScaleDeformableAttention with bilinear samples by indexing (Zhu et al., 2010.04159, eq. 3).

    TensorRT and others have computed GridSample wrongly; this needs only Gather.

    Args:
        attention: the layer whose weights are taken over.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention: Any = attention

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Sequence[tuple[int, int]] = (),
        level_start_index: object = None,
        **unused: object,
    ) -> Tensor:
        """Attend like mmcv's layer, without padding; ``spatial_shapes`` are integers, batches come first."""
        layer = self.attention
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if not layer.batch_first:
            query, value = query.permute(1, 0, 2), value.permute(1, 0, 2)
        assert reference_points is not None and key_padding_mask is None
        (B, Q, _), heads, levels, points = query.shape, layer.num_heads, layer.num_levels, layer.num_points
        values = layer.value_proj(value).reshape(B, value.shape[1], heads, -1)
        offsets = layer.sampling_offsets(query).reshape(B, Q, heads, levels, points, 2)
        weights = layer.attention_weights(query).reshape(B, Q, heads, levels * points).softmax(-1)
        weights = weights.reshape(B, Q, heads, levels, points)
        reference = reference_points[:, :, None, :, None]
        if reference_points.shape[-1] == 2:
            extents = offsets.new_tensor([(w, h) for h, w in spatial_shapes])
            places = reference + offsets / extents[:, None]
        else:
            places = reference[..., :2] + offsets / points * reference[..., 2:] * 0.5
        sampled = _sample(values, places.permute(0, 2, 1, 3, 4, 5).flatten(3, 4), points, spatial_shapes)
        total = (sampled * weights.permute(0, 2, 1, 3, 4).flatten(3)[..., None]).sum(3)
        out = layer.output_proj(total.permute(0, 2, 1, 3).reshape(B, Q, -1))
        return layer.dropout(out if layer.batch_first else out.permute(1, 0, 2)) + identity


def _sample(values: Tensor, places: Tensor, points: int, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Bilinear samples of all levels, zero outside.

    Args:
        values: (B, N, heads, d), the levels one after the other.
        places: (B, heads, Q, L * points, 2), x and y in 0..1, level by level.
        points: samples on each level.
        shapes: (height, width) of each level.

    Returns:
        (B, heads, Q, L * points, d).
    """
    B, heads, Q, P, _ = places.shape
    heights, widths = (
        values.new_tensor(side).repeat_interleave(points) for side in zip(*shapes, strict=True)
    )
    starts = torch.tensor([0] + [h * w for h, w in shapes[:-1]], device=values.device).cumsum(0)
    first = torch.arange(B * heads, device=values.device).reshape(B, heads, 1, 1) * values.shape[1]
    first = first + starts.repeat_interleave(points)
    rows = values.permute(0, 2, 1, 3).flatten(0, 2)
    x, y = places[..., 0] * widths - 0.5, places[..., 1] * heights - 0.5
    left, top = x.floor(), y.floor()
    result = None
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < widths) & (row >= 0) & (row < heights)
            at = torch.minimum(row.clamp(min=0), heights - 1) * widths
            at = (at + torch.minimum(column.clamp(min=0), widths - 1)).long() + first
            corner = rows.index_select(0, at.flatten()).reshape(B, heads, Q, P, -1)
            part = corner * (weight * inside)[..., None]
            result = part if result is None else result + part
    assert result is not None
    return result
