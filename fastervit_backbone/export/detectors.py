"""Detectors as modules that are exported: fixed numbers of proposals, queries and boxes."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from ..utils.errors import UserError
from .detector_ops import (
    Pyramid,
    best,
    best_classes,
    decode_boxes,
    filled,
    gather_attention,
    pad_to_multiple,
    rows_in_use,
    suppress,
)
from .graph import Graph

#: Rows of proposals and of masks are computed in multiples of these: a runtime prepares its kernels anew for
#: every number of rows, and keeps them.
STEP, MASK_STEP = 64, 8
#: A (height, width) that fits no map.
ODD_SIZE = (97, 161)


class DetectorGraph(Graph):
    """``boxes`` (B, N, 4), pixels, ``scores`` (B, N) and ``labels`` (B, N), -1 for padding; ``masks``."""

    task = 'detection'
    outputs: tuple[str, ...] = ('boxes', 'scores', 'labels')

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        super().__init__(model, size)
        # an image that is not resized to one size is padded, as the model's own preprocessor does it
        self.divisor = int(getattr(model.data_preprocessor, 'pad_size_divisor', 1))

    def check_any_size(self) -> None:
        """Raise UserError if the numbers of a detector's queries or maps belong to one size."""
        raise UserError(
            f'--dynamic: what a {type(self.model).__name__} computes belongs to one size: '
            'export a file for each --size'
        )

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> boxes, scores, labels and, with a mask head, masks."""
        size = self.size or (x.shape[2], x.shape[3])
        images = [self.detect(maps, size) for maps in _per_image(self.model.extract_feat(self.padded(x)))]
        return tuple(torch.stack(parts) for parts in zip(*images, strict=True))

    def padded(self, x: Tensor) -> Tensor:
        """Pad normalized images of any size with zeros to multiples of the preprocessor's divisor."""
        return x if self.size is not None else pad_to_multiple(x, self.divisor)

    def detect(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Compute the results of one image, whose maps are (1, C, H_l, W_l)."""
        raise NotImplementedError


class DenseGraph(DetectorGraph):
    """RetinaNet and ATSS: the best anchors of each level, decoded, then suppression per class."""

    def check_any_size(self) -> None:
        """Allow any size: the anchors follow from the maps."""

    def detect(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """See :meth:`DetectorGraph.detect`."""
        head = self.model.bbox_head
        cfg = head.test_cfg
        parts: list[tuple[Tensor, ...]] = []
        for scores, deltas, anchors, factors in _dense(head, maps):
            values, index, _ = best(scores.flatten(), cfg.nms_pre)
            box = index // scores.shape[1]
            boxes = decode_boxes(head.bbox_coder, anchors[box], deltas[box], size)
            above = values > cfg.score_thr  # as in mmdet, before the factor
            values = values if factors is None else values * factors[box]
            parts.append((boxes, values, index % scores.shape[1], above))
        boxes, scores, labels, above = (torch.cat(part) for part in zip(*parts, strict=True))
        return finish(boxes, scores, labels, above & large_enough(boxes, cfg), cfg)[0]


class TwoStageGraph(DetectorGraph):
    """Faster, Mask and Cascade R-CNN; ``masks`` (B, N, S, S) are probabilities within the boxes.

    Boxes and masks are computed for as many rows as an image has proposals and objects, and filled up with
    zeros.

    Args:
        fixed: compute all rows always, for runtimes that want fixed shapes inside (TensorRT).
    """

    def __init__(self, model: Any, size: tuple[int, int] | None, fixed: bool = False) -> None:
        super().__init__(model, size)
        self.fixed = fixed
        roi_head = self.model.roi_head
        if getattr(roi_head, 'with_shared_head', False):
            raise UserError('export knows no RoI head with a shared head (C4): use a model with a pyramid')
        self.box_heads, self.box_extractors = _stages(roi_head, 'bbox')
        self.mask_heads, self.mask_extractors = _stages(roi_head, 'mask') if roi_head.with_mask else ([], [])
        self.levels = max(len(e.roi_layers) for e in (*self.box_extractors, *self.mask_extractors))
        if self.mask_heads:
            self.outputs = (*self.outputs, 'masks')

    def detect(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """See :meth:`DetectorGraph.detect`."""
        if self.size is not None:
            self._check_maps(maps, size)
        proposals, valid = self._propose(maps, size)
        boxes = proposals if self.fixed else proposals[rows_in_use(valid, STEP)]
        logits: list[Tensor] = []
        pyramid = Pyramid(maps[: self.levels])
        for i, (head, extractor) in enumerate(zip(self.box_heads, self.box_extractors, strict=True)):
            cls_score, deltas = head(pyramid.pool(extractor, boxes))
            logits.append(cls_score)
            if not head.reg_class_agnostic:
                deltas = deltas.unflatten(1, (-1, 4))
            if i + 1 < len(self.box_heads):
                if not head.reg_class_agnostic:
                    best = cls_score[:, :-1].argmax(1)
                    deltas = deltas.gather(1, best[:, None, None].expand(-1, 1, 4))[:, 0]
                boxes = decode_boxes(head.bbox_coder, boxes, deltas, size)
        count = len(proposals)
        boxes, deltas = filled(boxes, count), filled(deltas, count)
        logits = [filled(part, count) for part in logits]
        scores = torch.stack(logits).mean(0).softmax(1)[:, :-1] * valid[:, None]
        cfg = self.model.roi_head.test_cfg
        region, labels, values, above = best_classes(scores, cfg.score_thr)
        if head.reg_class_agnostic:
            deltas = deltas[region]
        else:
            deltas = deltas.flatten(0, 1)[region * deltas.shape[1] + labels]
        boxes = decode_boxes(head.bbox_coder, boxes[region], deltas, size)
        results, _ = finish(boxes, values, labels, above, cfg)
        return (*results, self._masks(pyramid, results[0], results[2])) if self.mask_heads else results

    def check_any_size(self) -> None:
        """Raise UserError if the maps of an odd image do not reach its edge."""
        x = self.padded(self.mean.new_zeros(1, self.mean.numel(), *ODD_SIZE))
        with torch.inference_mode():
            self._check_maps(self.model.extract_feat(x), ODD_SIZE)

    def _check_maps(self, maps: Sequence[Tensor], size: tuple[int, int]) -> None:
        """Raise UserError if a level does not reach the edge of the image, as maps of some backbones do."""
        for x, layer in zip(maps, self.box_extractors[0].roi_layers, strict=False):
            if any(n < side * layer.spatial_scale for n, side in zip(x.shape[2:], size, strict=True)):
                raise UserError(
                    f'{size[0]}x{size[1]}: the maps of this backbone end before the image does: '
                    'give a --size of multiples of 32'
                )

    def _propose(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the proposals (N, 4) and whether each is one (N,)."""
        head = self.model.rpn_head
        cfg = head.test_cfg
        parts: list[tuple[Tensor, ...]] = []
        for i, (scores, deltas, anchors, _) in enumerate(_dense(head, maps)):
            values, index, is_one = best(scores[:, 0], cfg.nms_pre)
            boxes = decode_boxes(head.bbox_coder, anchors[index], deltas[index], size)
            parts.append((boxes, values, torch.full_like(index, i), is_one))
        boxes, scores, levels, is_one = (torch.cat(part) for part in zip(*parts, strict=True))
        valid = is_one & large_enough(boxes, cfg)
        index, valid = suppress(boxes, scores, levels, valid, _iou(cfg), cfg.max_per_img)
        return boxes[index] * valid[:, None], valid

    def _masks(self, pyramid: Pyramid, boxes: Tensor, labels: Tensor) -> Tensor:
        count = len(boxes)
        if not self.fixed:
            rows = rows_in_use(labels >= 0, MASK_STEP)
            boxes, labels = boxes[rows], labels[rows]
        heads = zip(self.mask_heads, self.mask_extractors, strict=True)
        masks = [head(pyramid.pool(extractor, boxes)).sigmoid() for head, extractor in heads]
        mean = torch.stack(masks).mean(0)
        channel = torch.zeros_like(labels) if self.mask_heads[0].class_agnostic else labels.clamp(min=0)
        index = channel[:, None, None, None].expand(-1, 1, *mean.shape[2:])
        return filled(mean.gather(1, index)[:, 0], count)


class DinoGraph(DetectorGraph):
    """DINO: no suppression, the best queries; deformable attention samples by gathering."""

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        super().__init__(model, size)
        gather_attention(self.model)

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> boxes, scores, labels."""
        assert self.size is not None
        model = self.model
        maps = model.extract_feat(x)
        shapes = [(m.shape[2], m.shape[3]) for m in maps]
        tokens = torch.cat([m.flatten(2).permute(0, 2, 1) for m in maps], 1)
        positions = torch.cat(
            [
                model.positional_encoding(None, input=m).flatten(2).permute(0, 2, 1) + model.level_embed[i]
                for i, m in enumerate(maps)
            ],
            1,
        )
        ratios = x.new_ones(len(x), len(maps), 2)
        geometry: dict[str, Any] = dict(spatial_shapes=shapes, level_start_index=None, valid_ratios=ratios)
        memory = model.encoder(query=tokens, query_pos=positions, key_padding_mask=None, **geometry)
        start, _ = model.pre_decoder(memory, None, shapes)
        del start['dn_mask']
        decoded = model.forward_decoder(**start, memory_mask=None, **geometry)
        logits, boxes = model.bbox_head(**decoded)
        head = model.bbox_head
        scores = logits[-1].sigmoid()
        count = min(head.test_cfg.get('max_per_img', scores.shape[1]), scores[0].numel())
        values, index = scores.flatten(1).topk(count)
        chosen = boxes[-1].gather(1, (index // scores.shape[2])[..., None].expand(-1, -1, 4))
        half = chosen[..., 2:] * 0.5
        extent = x.new_tensor((self.size[1], self.size[0]) * 2)
        corners = torch.cat((chosen[..., :2] - half, chosen[..., :2] + half), -1).clamp(0, 1) * extent
        return corners, values, index % scores.shape[2]


def _per_image(maps: Sequence[Tensor]) -> list[list[Tensor]]:
    return [[m[i : i + 1] for m in maps] for i in range(len(maps[0]))]


def _dense(head: Any, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Return scores (N, C), deltas (N, 4), anchors (N, 4) and factors (N,) of each level of one image.

    A factor, such as ATSS's centerness, multiplies the scores of its box; None: the head has none.
    """
    check_dense_head(head)
    outputs = head(tuple(maps))
    shapes = [tuple(score.shape[2:]) for score in outputs[0]]
    anchors = head.prior_generator.grid_priors(shapes, device=maps[0].device)
    levels: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
    for score, delta, *factor, anchor in zip(*outputs, anchors, strict=True):
        scores = score[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels).sigmoid()
        factors = factor[0][0].permute(1, 2, 0).reshape(-1).sigmoid() if factor else None
        levels.append((scores, delta[0].permute(1, 2, 0).reshape(-1, 4), anchor, factors))
    return levels


def _stages(roi_head: Any, kind: str) -> tuple[list[Any], list[Any]]:
    heads, extractors = getattr(roi_head, f'{kind}_head'), getattr(roi_head, f'{kind}_roi_extractor')
    if not isinstance(heads, torch.nn.ModuleList):
        heads, extractors = [heads], [extractors]
    extractors = list(extractors) * (len(heads) // len(extractors))
    unknown = {type(e).__name__ for e in extractors} - {'SingleRoIExtractor'}
    if unknown:
        raise UserError(f'export knows SingleRoIExtractor only, not {unknown.pop()}')
    layers = [layer for extractor in extractors for layer in extractor.roi_layers]
    if not all(type(layer).__name__ == 'RoIAlign' and layer.aligned for layer in layers):
        raise UserError("export knows RoIAlign with aligned=True only, as is mmcv's default")
    return list(heads), extractors


def check_dense_head(head: Any) -> None:
    """Raise UserError unless a head's scores are sigmoids."""
    if not head.use_sigmoid_cls:
        raise UserError(
            f'export knows dense heads with sigmoid scores only, not {type(head).__name__} as given'
        )


def large_enough(boxes: Tensor, cfg: Config) -> Tensor:
    """Return whether the sides of boxes (N, 4) are longer than ``cfg.min_bbox_size``: (N,), bool."""
    return ((boxes[:, 2:] - boxes[:, :2]) > cfg.get('min_bbox_size', -1)).all(1)


def _iou(cfg: Config) -> float:
    nms = dict(cfg.nms)
    if nms.pop('type', 'nms') != 'nms' or set(nms) != {'iou_threshold'}:
        raise UserError(f'export knows nms with an iou_threshold only, not test_cfg.nms={dict(cfg.nms)}')
    return float(nms['iou_threshold'])


def finish(
    boxes: Tensor, scores: Tensor, labels: Tensor, valid: Tensor, cfg: Config
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Suppress per class and pad to ``cfg.max_per_img``; also return the index of each result."""
    index, valid = suppress(boxes, scores, labels, valid, _iou(cfg), cfg.max_per_img)
    scores, boxes = scores[index] * valid, boxes[index] * valid[:, None]
    return (boxes, scores, torch.where(valid, labels[index], torch.full_like(index, -1))), index
