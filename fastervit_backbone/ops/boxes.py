"""Overlaps of boxes, upright and rotated, under the names and with the arguments of ``mmcv._ext``."""

import torch
from torch import Tensor

#: Pairs of rotated boxes whose overlaps are computed at once: about 100 MB.
_PAIRS = 1 << 16
#: Corners of a box in units of half its sides, in order around it.
_CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Fill ``ious`` (M, N), or (M,) if aligned, with the overlaps of boxes x1, y1, x2, y2.

    Args:
        bboxes1: (M, 4).
        bboxes2: (N, 4).
        ious: filled.
        mode: 0 for the intersection over the union, 1 over the first box.
        aligned: only of boxes with the same number.
        offset: 0, or 1 for boxes whose last pixel is included.
    """
    first, second = bboxes1.float(), bboxes2.float()
    if not aligned:
        first = first[:, None]
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    inter = (bottom_right - top_left + offset).clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2] + offset).prod(-1) for b in (first, second)]
    ious.copy_(inter / (areas[0] if mode else areas[0] + areas[1] - inter))


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by non-maximum suppression: each that is kept, and those that it removes.

    Args:
        dets: (N, 5) x1, y1, x2, y2, score.
        iou_threshold: boxes that overlap a better one by at least as much are removed.
    """
    ious = dets.new_zeros(len(dets), len(dets))
    bbox_overlaps(dets[:, :4], dets[:, :4], ious, mode=0, aligned=False, offset=0)
    remaining, groups = dets[:, 4].argsort(descending=True, stable=True), []
    while len(remaining):
        best, others = remaining[0], remaining[1:]
        is_removed = ious[best, others] >= iou_threshold
        groups.append([int(best), *others[is_removed].tolist()])
        remaining = others[~is_removed]
    return groups


def box_iou_rotated(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Fill ``ious`` (M * N,), or (M,) if aligned, with the overlaps of rotated boxes.

    Args:
        bboxes1: (M, 5) center x and y, width, height, angle in radians, clockwise where y points down.
        bboxes2: (N, 5).
        ious: filled.
        mode_flag: 0 for the intersection over the union, 1 over the first box.
        aligned: only of boxes with the same number.
    """
    if aligned:
        ious.copy_(_overlaps(bboxes1, bboxes2, mode_flag))
        return
    count = len(bboxes2)
    for start in range(0, len(ious), _PAIRS):
        pair = torch.arange(start, min(start + _PAIRS, len(ious)), device=ious.device)
        ious[pair] = _overlaps(bboxes1[pair // count], bboxes2[pair % count], mode_flag).to(ious)


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Return the indices of the rotated boxes that non-maximum suppression keeps, best score first.

    Args:
        dets: (N, 5) as in :func:`box_iou_rotated`, or (N, 6) with labels.
        scores: (N,).
        order: (N,) indices, best score first.
        dets_sorted: ``dets`` in that order.
        labels: (N,), or empty.
        iou_threshold: boxes that overlap a better one by more are suppressed.
        multi_label: boxes suppress only others with the same label.
    """
    is_kept = torch.ones(len(order), dtype=torch.bool, device=dets.device)
    for i in range(len(order)):
        if not is_kept[i]:
            continue
        others = is_kept.nonzero()[:, 0]
        others = others[others > i]
        if multi_label:
            others = others[dets_sorted[others, 5] == dets_sorted[i, 5]]
        best = dets_sorted[i, :5].expand(len(others), 5)
        is_kept[others[_overlaps(best, dets_sorted[others, :5], 0) > iou_threshold]] = False
    return order[is_kept]


def _overlaps(first: Tensor, second: Tensor, mode: int) -> Tensor:
    """Return the overlaps of K pairs of rotated boxes (K, 5), in float64.

    The intersection is convex. Its corners are those of each box inside of the other and the crossings of
    their sides; in order of their angle around their mean, the shoelace formula has its area.
    """
    first, second = first.double(), second.double()
    # relative to the first center: no digits are lost far from the origin
    corners = [_corners(box, first[:, :2]) for box in (first, second)]
    crossings, crosses = _crossings(*corners)
    points = torch.cat((*corners, crossings), 1)  # (K, 4 + 4 + 16, 2)
    inside = [_is_inside(corners[0], second, first[:, :2]), _is_inside(corners[1], first, first[:, :2])]
    is_corner = torch.cat((*inside, crosses), 1)
    count = is_corner.sum(1, keepdim=True)
    mean = (points * is_corner[..., None]).sum(1) / count.clamp(min=1)
    points = torch.where(is_corner[..., None], points - mean[:, None], 0.0)
    angles = torch.where(is_corner, torch.atan2(points[..., 1], points[..., 0]), torch.inf)
    order = angles.argsort(1)[..., None].expand(-1, -1, 2)
    points = points.gather(1, order)
    # what is no corner comes last: it becomes the first corner, which adds no area
    is_last = torch.arange(points.shape[1], device=points.device) >= count
    points = torch.where(is_last[..., None], points[:, :1], points)
    following = points.roll(-1, 1)
    area = (points[..., 0] * following[..., 1] - points[..., 1] * following[..., 0]).sum(1).abs() / 2
    areas = [box[:, 2] * box[:, 3] for box in (first, second)]
    whole = areas[0] if mode else areas[0] + areas[1] - area
    return torch.where((count[:, 0] > 2) & (whole > 0), area / whole, 0.0)


def _corners(boxes: Tensor, origin: Tensor) -> Tensor:
    """Corners (K, 4, 2), in order around the boxes."""
    unit = boxes.new_tensor(_CORNERS)
    x, y = (unit * boxes[:, None, 2:4] / 2).unbind(2)
    cos, sin = boxes[:, 4:].cos(), boxes[:, 4:].sin()
    rotated = torch.stack((cos * x - sin * y, sin * x + cos * y), 2)
    return rotated + (boxes[:, None, :2] - origin[:, None])


def _is_inside(points: Tensor, boxes: Tensor, origin: Tensor) -> Tensor:
    """Whether points (K, P, 2) are in boxes (K, 5) or on their sides."""
    x, y = (points - (boxes[:, None, :2] - origin[:, None])).unbind(2)
    cos, sin = boxes[:, 4:].cos(), boxes[:, 4:].sin()
    half = boxes[:, None, 2:4] / 2 * (1 + 1e-9)
    return ((cos * x + sin * y).abs() <= half[..., 0]) & ((cos * y - sin * x).abs() <= half[..., 1])


def _crossings(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Crossings of the sides of two boxes of corners (K, 4, 2): points (K, 16, 2), and whether they exist."""
    a, b = first[:, :, None], second[:, None]
    along_a, along_b = (c.roll(-1, 1) - c for c in (first, second))
    along_a, along_b = along_a[:, :, None], along_b[:, None]

    def cross(u: Tensor, v: Tensor) -> Tensor:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    turn = cross(along_a, along_b)
    is_parallel = turn.abs() <= 1e-14 * (along_a.norm(dim=-1) * along_b.norm(dim=-1))
    turn = torch.where(is_parallel, 1.0, turn)
    t, u = cross(b - a, along_b) / turn, cross(b - a, along_a) / turn
    crosses = ~is_parallel & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    return (a + t[..., None] * along_a).flatten(1, 2), crosses.flatten(1)
