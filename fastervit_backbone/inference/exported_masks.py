"""Masks of the whole image, as RTMDet-Ins and Mask2Former compute them, in its size, without torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..structures.prediction import INSTANCE_OFFSET, Prediction, encode_mask
from .exported_arrays import resize_channels


@dataclass(frozen=True)
class Geometry:
    """Sizes (height, width) on the way from an image to the results of a file.

    Args:
        canvas: what the file takes.
        inner: the image within it, without padding.
        size: the image itself.
    """

    canvas: tuple[int, int]
    inner: tuple[int, int]
    size: tuple[int, int]

    def resize_with_padding(self, logits: np.ndarray) -> np.ndarray:
        """Resize (h, w) as RTMDet-Ins does: to the canvas, to its size in pixels of the image, then crop."""
        whole = [
            math.ceil(side * size / inner)
            for side, size, inner in zip(self.canvas, self.size, self.inner, strict=True)
        ]
        full = _resize(_resize(logits, self.canvas), (whole[0], whole[1]))
        return full[: self.size[0], : self.size[1]]

    def resize_without_padding(self, logits: np.ndarray) -> np.ndarray:
        """Resize (h, w) as Mask2Former does: to the canvas, crop the image, resize to its size."""
        return _resize(_resize(logits, self.canvas)[: self.inner[0], : self.inner[1]], self.size)


def _resize(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize_channels(logits.astype(np.float32)[None], size, False)[0]


def masks_of_objects(logits: np.ndarray, geometry: Geometry, threshold: float) -> list[dict]:
    """Return the masks of (N, h, w), logits, as COCO's run-length encodings.

    Args:
        logits: of objects.
        geometry: sizes.
        threshold: least probability of a pixel.
    """
    least = math.log(threshold / (1 - threshold))
    return [encode_mask(geometry.resize_with_padding(mask) > least) for mask in logits]


def prediction_of_queries(
    probabilities: np.ndarray,
    masks: np.ndarray,
    how: Mapping[str, Any],
    geometry: Geometry,
    threshold: float,
    labels: Sequence[int] | None,
) -> Prediction:
    """Tell what queries mean (Cheng et al., arXiv 2112.01527, section 3.3 and Kirillov et al., 1801.00868).

    Args:
        probabilities: (Q, classes + 1), the last for "no object".
        masks: (Q, h, w), logits.
        how: ``things``, the number of classes of objects; ``max_per_image`` if there are objects, and
            ``panoptic``, its limits, if there are segments.
        geometry: sizes.
        threshold: lowest score of an object.
        labels: classes to keep; None: all.
    """
    objects = Prediction.of_nothing(geometry.size)
    if 'max_per_image' in how:
        objects = _objects(probabilities, masks, how, geometry, threshold, labels)
    if 'panoptic' not in how:
        return objects
    segments = _segments(probabilities, masks, how, geometry)
    if labels is not None:
        segments[~np.isin(segments % INSTANCE_OFFSET, labels)] = -1
    return replace(objects, panoptic=segments)


def _objects(
    probabilities: np.ndarray,
    masks: np.ndarray,
    how: Mapping[str, Any],
    geometry: Geometry,
    threshold: float,
    labels: Sequence[int] | None,
) -> Prediction:
    """Return the most probable pairs of query and class, weighted by the mean probability of the mask."""
    scores = probabilities[:, :-1].astype(np.float32)
    best = np.argsort(-scores, axis=None, kind='stable')[: how['max_per_image']]
    found: list[tuple[np.ndarray, float, int, dict]] = []
    pixels: dict[int, tuple[np.ndarray, float, dict]] = {}
    for query, label in zip(*np.unravel_index(best, scores.shape), strict=True):
        score = float(scores[query, label])
        if label >= how['things'] or score < threshold or (labels is not None and label not in labels):
            continue
        if query not in pixels:
            logits = geometry.resize_without_padding(masks[query])
            inside = logits > 0
            mean = float(_sigmoid(logits[inside]).sum(dtype=np.float64) / (inside.sum() + 1e-6))
            rle = encode_mask(inside)
            left, top, width, height = coco_mask.toBbox(rle)
            pixels[query] = np.array([left, top, left + width, top + height]), mean, rle
        box, mean, rle = pixels[query]
        found.append((box, score * mean, int(label), rle))
    found = sorted((f for f in found if f[1] >= threshold), key=lambda f: -f[1])
    return Prediction(
        geometry.size,
        np.array([f[0] for f in found], np.float32).reshape(-1, 4),
        np.array([f[1] for f in found], np.float32),
        np.array([f[2] for f in found], int),
        [f[3] for f in found],
    )


def _segments(
    probabilities: np.ndarray, masks: np.ndarray, how: Mapping[str, Any], geometry: Geometry
) -> np.ndarray:
    """Give each pixel to the query with the largest product of its probabilities; see Prediction.panoptic."""
    limits = how['panoptic']
    scores, labels = probabilities.max(1), probabilities.argmax(1)
    kept = np.flatnonzero((labels < probabilities.shape[1] - 1) & (scores > limits['object_mask_thr']))
    best = np.full(geometry.size, -1, np.float32)
    owner = np.full(geometry.size, -1, np.int32)
    inside: list[np.ndarray] = []
    for k, query in enumerate(kept):
        values = _sigmoid(geometry.resize_without_padding(masks[query]))
        inside.append(values >= 0.5)
        values = values * scores[query]
        better = values > best
        best[better], owner[better] = values[better], k
    segments = np.full(geometry.size, -1, np.int32)
    number = 1
    for k, query in enumerate(kept):
        mask, label = owner == k, int(labels[query])
        area, original = int(mask.sum()), int(inside[k].sum())
        if limits['filter_low_score']:
            mask &= inside[k]
        if not area or not original or area / original < limits['iou_thr']:
            continue
        is_thing = label < how['things']
        segments[mask] = label + (number * INSTANCE_OFFSET if is_thing else 0)
        number += is_thing
    return segments


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))
