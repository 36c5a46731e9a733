"""Steps of detectors with fixed shapes: what a model computes with lists of any length, in padded tensors."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor, nn

from ..utils.errors import UserError

#: Candidates of (box, class) that the last suppression gets: the best ones. mmdet's have no such limit.
MOST_CANDIDATES = 4096
_OPS = torch.ops.torchvision
_largest: Any = torch.sym_max  # of integers and symbols


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
    corners = torch.cat((center - half, center + half), -1).clamp(min=0)
    return torch.minimum(corners, numbers((size[1], size[0]) * 2, deltas))


def numbers(values: Sequence[Any], like: Tensor) -> Tensor:
    """Return a tensor (N,) of numbers, some may be symbols, with the dtype and device of ``like``."""
    if all(isinstance(value, int | float) for value in values):
        return like.new_tensor(values)
    return torch.cat([like.new_full((1,), value) for value in values])


def pad_to_multiple(x: Tensor, divisor: int) -> Tensor:
    """Append zeros to images (B, C, H, W) so that both sides are multiples of ``divisor``."""
    # ONNX rounds quotients of negative numbers toward zero: none here
    height, width = ((side + divisor - 1) // divisor * divisor for side in x.shape[2:])
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the best of any number of scores, which may be a symbol.

    Args:
        scores: (N,), at least 0.
        count: number of chosen ones, at most; exactly so many rows where N is a symbol.

    Returns:
        score, index and whether it is one of the scores, each (M,); what is none has score -1 and index 0.
    """
    if isinstance(scores.shape[0], int):
        values, index = scores.topk(min(count, scores.shape[0]))
        return values, index, torch.ones_like(index, dtype=torch.bool)
    values, index = torch.cat((scores, scores.new_full((count,), -1.0))).topk(count)
    is_one = values >= 0
    return values, index * is_one, is_one


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
    # torch.export takes it that two boxes or more are kept: two that no other touches
    shifted = torch.cat((shifted, torch.stack((apart, apart - 4))))
    scores = torch.where(valid, scores, torch.zeros_like(scores))
    kept = _OPS.nms(shifted, torch.cat((scores, scores.new_zeros(2))), iou_threshold)
    number = kept.shape[0]
    index = torch.cat((kept, kept.new_zeros(count)))[:count]
    is_one = torch.cat((valid, valid.new_zeros(2)))[index]
    is_one = is_one & (torch.arange(count, device=boxes.device) < number)
    return index * is_one, is_one


class Pyramid:
    """The levels of one image side by side in one map, so that a single RoIAlign serves all levels.

    Where every level pools every box, most of the work is for nothing. The edge of a level is repeated once
    around it, which is what RoIAlign reads beyond the edge.

    Args:
        maps: the levels, (1, C, H_l, W_l).
    """

    def __init__(self, maps: Sequence[Tensor]) -> None:
        first, *others = (F.pad(m, (1, 1, 1, 1), mode='replicate') for m in maps)
        self.corners = [(1, 1)]  # (left, top) of each level
        if others:  # one below the other, right of the first
            width = reduce(_largest, [m.shape[3] for m in others])
            height = _largest(first.shape[2], sum(m.shape[2] for m in others))
            tops = [sum(m.shape[2] for m in others[:i]) for i in range(len(others))]
            self.corners += [(first.shape[3] + 1, top + 1) for top in tops]
            right = torch.cat([F.pad(m, (0, width - m.shape[3])) for m in others], 2)
            columns = [F.pad(part, (0, 0, 0, height - part.shape[2])) for part in (first, right)]
            first = torch.cat(columns, 3)
        self.map = first

    def pool(self, extractor: Any, boxes: Tensor) -> Tensor:
        """RoIAlign of every box on the level of its size (Lin et al., arXiv 1612.03144, equation 1).

        Args:
            extractor: mmdet's SingleRoIExtractor.
            boxes: (N, 4), pixels of the image.

        Returns:
            (N, C, S, S).
        """
        layers = extractor.roi_layers
        size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        level = torch.floor(torch.log2(size / extractor.finest_scale + 1e-6)).clamp(0, len(layers) - 1).long()
        scales = boxes.new_tensor([layer.spatial_scale for layer in layers])
        corners = numbers([n for pair in self.corners[: len(layers)] for n in pair], boxes).reshape(-1, 2)
        placed = boxes * scales[level][:, None] + corners[level].repeat(1, 2)
        rois = torch.cat((torch.zeros_like(placed[:, :1]), placed), 1)
        layer = layers[0]
        return _OPS.roi_align(self.map, rois, 1.0, *layer.output_size, layer.sampling_ratio, layer.aligned)


def rows_in_use(flags: Tensor, step: int) -> Tensor:
    """Return the indices of the first rows, as many as contain all that are set, rounded up to full steps.

    At least one step, as no runtime is safe with no rows.

    Args:
        flags: (N,), bool.
        step: a runtime prepares its kernels anew for each number of rows: of few numbers, it keeps them.
    """
    rank = torch.arange(1, len(flags) + 1, device=flags.device)
    number = (rank * flags).amax(0).clamp(min=1)
    number = (number + step - 1) // step * step
    rows = (rank <= number).nonzero()[:, 0]
    # what torch.export asks of layers such as batch norm, and cannot know of a number of rows
    torch._check(rows.shape[0] >= 1)
    torch._check(rows.shape[0] <= len(flags))
    return rows


def filled(values: Tensor, count: int) -> Tensor:
    """Append zeros to (n, ...) so that it has ``count`` rows, n at most ``count``."""
    return torch.cat((values, values.new_zeros(count, *values.shape[1:])))[:count]


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


def gather_attention(model: nn.Module) -> None:
    """Replace each MultiScaleDeformableAttention of a model by :class:`GatheredAttention`."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child).__name__ == 'MultiScaleDeformableAttention':
                setattr(module, name, GatheredAttention(child))


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
