"""Samples of mmdet, mmseg and mmpretrain as predictions: what a model found, and what is annotated."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from ..structures.prediction import INSTANCE_OFFSET, Prediction, encode_mask


def found_in(
    sample: BaseDataElement,
    size: tuple[int, int],
    num_classes: int,
    threshold: float = 0.0,
    labels: Sequence[int] | None = None,
) -> Prediction:
    """Convert what a model found.

    Args:
        sample: with ``pred_...``.
        size: (H, W) of the image.
        num_classes: of the model.
        threshold: lowest score of an object.
        labels: indices of the classes to keep; None: all.
    """
    if 'pred_score' in sample:
        return Prediction.of_classes(size, sample.pred_score.float().cpu().numpy(), labels)
    if 'pred_sem_seg' in sample:
        label_map = sample.pred_sem_seg.data[0].cpu().numpy()
        return Prediction.of_label_map(label_map, num_classes, labels)
    panoptic = None
    if 'pred_panoptic_seg' in sample:
        panoptic = sample.pred_panoptic_seg.sem_seg[0].cpu().numpy().astype(np.int32)
        is_class = panoptic % INSTANCE_OFFSET < num_classes
        if labels is not None:
            is_class &= np.isin(panoptic % INSTANCE_OFFSET, labels)
        panoptic[~is_class] = -1
        if 'pred_instances' not in sample:
            return replace(Prediction.of_nothing(size), panoptic=panoptic)
    objects = sample.pred_instances
    keep = objects.scores >= threshold
    if labels is not None:
        keep &= torch.isin(objects.labels, torch.tensor(labels, device=keep.device))
    objects = objects[keep]
    objects = objects[objects.scores.argsort(descending=True, stable=True)]
    masks = [encode_mask(mask.cpu().numpy()) for mask in objects.masks] if 'masks' in objects else None
    boxes = objects.bboxes.float().cpu().numpy()
    scores = objects.scores.float().cpu().numpy()
    return Prediction(size, boxes, scores, objects.labels.cpu().numpy(), masks, panoptic=panoptic)


def annotated_in(sample: BaseDataElement, size: tuple[int, int], num_classes: int) -> Prediction:
    """Convert the annotations of a sample; ``size``: (H, W) of the image that they are in."""
    if 'gt_sem_seg' in sample and 'gt_instances' not in sample:
        label_map = sample.gt_sem_seg.data[0].cpu().numpy()
        return Prediction.of_label_map(label_map, num_classes, range(num_classes))
    if 'gt_label' in sample:
        probabilities = np.zeros(num_classes, np.float32)
        probabilities[sample.gt_label.cpu().numpy()] = 1
        found = Prediction.of_classes(size, probabilities)
        return found.select(found.scores > 0)
    objects = sample.gt_instances
    boxes = objects.bboxes
    boxes = getattr(boxes, 'tensor', boxes).float().cpu().numpy().astype(np.float32)
    masks = None
    if 'masks' in objects:
        masks = [encode_mask(mask > 0) for mask in objects.masks.to_ndarray()]
    labels = objects.labels.cpu().numpy()
    return Prediction(size, boxes, np.ones(len(boxes), np.float32), labels, masks)
