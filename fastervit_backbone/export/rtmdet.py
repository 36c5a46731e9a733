"""RTMDet and RTMDet-Ins as modules that are exported."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..models.arch import STRIDES
from ..utils.errors import UserError
from .detector_ops import best, numbers
from .detectors import DetectorGraph, check_dense_head, finish, large_enough


class RtmdetGraph(DetectorGraph):
    """RTMDet (Lyu et al., arXiv 2212.07784); RTMDet-Ins adds ``masks`` (B, N, h, w).

    They are logits of the whole image in the resolution of the finest level.
    """

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        super().__init__(model, size)
        if size is not None and any(side % STRIDES[-1] for side in size):
            raise UserError(
                f'--size {size[0]}x{size[1]}: the neck of an RTMDet adds maps of two strides: '
                f'use multiples of {STRIDES[-1]}'
            )
        self.head = self.model.bbox_head
        check_dense_head(self.head)
        coder = self.head.bbox_coder
        if type(coder).__name__ != 'DistancePointBBoxCoder' or not coder.clip_border:
            raise UserError(f'export knows DistancePointBBoxCoder with clip_border only, not {coder}')
        if hasattr(self.head, 'mask_head'):
            self.outputs = (*self.outputs, 'masks')
            self.reading = dict(masks=dict(threshold=float(self.head.test_cfg.mask_thr_binary)))
            if size is None:  # the masks belong to the padded image
                self.reading['masks']['divisor'] = self.divisor

    def check_any_size(self) -> None:
        """Raise UserError unless images are padded to what the neck takes."""
        if self.divisor % STRIDES[-1]:
            raise UserError(
                f'--dynamic: the neck of an RTMDet adds maps of two strides: set pad_size_divisor of the '
                f"model's data_preprocessor to {STRIDES[-1]}, not {self.divisor}"
            )

    def detect(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """See :meth:`DetectorGraph.detect`."""
        head, cfg = self.head, self.head.test_cfg
        classes, distances, *of_masks = head(tuple(maps))
        kernels = of_masks[0] if of_masks else [None] * len(maps)
        shapes = [tuple(score.shape[2:]) for score in classes]
        priors = head.prior_generator.grid_priors(shapes, device=maps[0].device, with_stride=True)
        bounds = numbers((size[1], size[0]) * 2, maps[0])
        parts: list[tuple[Tensor, ...]] = []
        for score, distance, kernel, points in zip(classes, distances, kernels, priors, strict=True):
            scores = _rows(score).sigmoid()
            values, index, _ = best(scores.flatten(), cfg.nms_pre)
            box = index // scores.shape[1]
            sides, places = _rows(distance)[box], points[box]
            corners = torch.cat((places[:, :2] - sides[:, :2], places[:, :2] + sides[:, 2:]), 1)
            boxes = torch.minimum(corners.clamp(min=0), bounds)
            part = (boxes, values, index % scores.shape[1], places)
            parts.append(part if kernel is None else (*part, _rows(kernel)[box]))
        boxes, scores, labels, places, *rest = (torch.cat(part) for part in zip(*parts, strict=True))
        valid = (scores > cfg.score_thr) & large_enough(boxes, cfg)
        results, index = finish(boxes, scores, labels, valid, cfg)
        if not of_masks:
            return results
        return (*results, self._masks(of_masks[1][0], rest[0][index], places[index]))

    def _masks(self, prototypes: Tensor, kernels: Tensor, places: Tensor) -> Tensor:
        """Apply to the prototypes the convolutions that each object brings along (section 3.4).

        Args:
            prototypes: (P, h, w).
            kernels: (N, number of weights): the weights of all layers, then their biases.
            places: (N, 4): point of each object, x and y, and stride of its level.

        Returns:
            (N, h, w), logits.
        """
        head, (_, h, w) = self.head, prototypes.shape
        grid = head.prior_generator.single_level_grid_priors((h, w), level_idx=0, device=prototypes.device)
        relative = (places[:, :2, None] - grid.T[None]) / (places[:, 2, None, None] * 8)
        inputs = prototypes.flatten(1)[None].expand(len(places), -1, -1)
        x = torch.cat((relative, inputs), 1)  # (N, 2 + P, h * w)
        weights, biases = (
            kernels.split(numbers, 1)
            for kernels, numbers in zip(
                kernels.split((sum(head.weight_nums), sum(head.bias_nums)), 1),
                (head.weight_nums, head.bias_nums),
                strict=True,
            )
        )
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if i:
                x = x.relu()
            x = weight.unflatten(1, (bias.shape[1], -1)) @ x + bias[..., None]
        return x[:, 0].unflatten(1, (h, w))


def _rows(x: Tensor) -> Tensor:
    """(1, C, h, w) -> (h * w, C), for heads with one prior at a place."""
    return x[0].permute(1, 2, 0).flatten(0, 1)
