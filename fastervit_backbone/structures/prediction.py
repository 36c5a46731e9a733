"""Predictions of a model for an image, and their COCO format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    import supervision as sv

#: mmdet's value of a segment is its class + this many times its number.
INSTANCE_OFFSET = 1000
#: Classes that a classifier names for an image.
TOP = 5


@dataclass(frozen=True)
class Categories:
    """The classes of a model.

    Args:
        names: in the order of the model's labels.
        ids: the dataset's ids: category ids of a COCO json, values of a label map.
        num_things: how many of the classes, the first ones, are objects; the others are stuff. None: all.
        own: whether the ids are known to be the dataset's; otherwise they count from 1 (objects) or 0 (label
            maps).
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    own: bool = True
    num_things: int | None = None

    def as_coco(self) -> list[dict]:
        """Return COCO's ``categories``, those of a panoptic model with ``isthing``."""
        entries: list[dict] = [dict(id=i, name=name) for i, name in zip(self.ids, self.names, strict=True)]
        if self.num_things is not None:
            entries = [e | dict(isthing=int(i < self.num_things)) for i, e in enumerate(entries)]
        return entries


@dataclass(frozen=True)
class Prediction:
    """Objects in an image, its label map, or its most probable classes.

    Args:
        size: (H, W) of the image in pixels.
        boxes: (N, 4), float32, x1 y1 x2 y2 in pixels of the image.
        scores: (N,), float32, in 0..1, descending.
        labels: (N,), integers, class indices.
        masks: None, or N of COCO's compressed run-length encodings, each of the image's size.
        classification: whether ``labels`` and ``scores`` are of the whole image, the most probable classes
            first; there are no boxes then.
        panoptic: None, or (H, W), int32, class index + 1000 * number of the object (stuff: 0), -1 for pixels
            without a segment.
        label_map: None, or (H, W), class indices of semantic segmentation, uint8 (uint16 beyond 256 classes).
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict] | None = None
    label_map: np.ndarray | None = None
    classification: bool = False
    panoptic: np.ndarray | None = None

    @classmethod
    def of_nothing(cls, size: tuple[int, int]) -> 'Prediction':
        """Make one without objects."""
        empty = np.zeros(0, np.float32)
        return cls(size, np.zeros((0, 4), np.float32), empty, np.zeros(0, int))

    @classmethod
    def of_label_map(
        cls, label_map: np.ndarray, num_classes: int, labels: Sequence[int] | None = None
    ) -> 'Prediction':
        """Make one of class indices (H, W); those that are not in ``labels`` are ignored."""
        label_map = label_map.astype(np.uint16 if num_classes > 255 else np.uint8)
        if labels is not None:
            label_map[~np.isin(label_map, labels)] = np.iinfo(label_map.dtype).max
        size = (label_map.shape[0], label_map.shape[1])
        return replace(cls.of_nothing(size), label_map=label_map)

    @classmethod
    def of_classes(
        cls, size: tuple[int, int], probabilities: np.ndarray, only: Sequence[int] | None = None
    ) -> 'Prediction':
        """Make one of the :data:`TOP` most probable classes, of all (C,) or of those in ``only``."""
        labels = np.argsort(-probabilities, kind='stable')
        if only is not None:
            labels = labels[np.isin(labels, only)]
        labels = labels[:TOP]
        no_boxes = np.zeros((0, 4), np.float32)
        return cls(size, no_boxes, probabilities[labels], labels, classification=True)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, which: np.ndarray) -> 'Prediction':
        """Return only some objects; ``which``: indices, or one bool per object."""
        indices = np.flatnonzero(which) if which.dtype == bool else which
        masks = None if self.masks is None else [self.masks[i] for i in indices]
        boxes = self.boxes if self.classification else self.boxes[indices]
        scores, labels = self.scores[indices], self.labels[indices]
        return replace(self, boxes=boxes, scores=scores, labels=labels, masks=masks)

    def resize(self, size: tuple[int, int]) -> 'Prediction':
        """Scale boxes and masks to an image of (H, W) = ``size``; only one mask is decoded at a time."""
        (h, w), (H, W) = self.size, size
        masks = self.masks
        if masks is not None:
            decoded = (np.ascontiguousarray(coco_mask.decode(rle)) for rle in masks)
            resized = (cv2.resize(mask, (W, H), interpolation=cv2.INTER_NEAREST) for mask in decoded)
            masks = [encode_mask(mask) for mask in resized]
        return replace(self, size=size, boxes=self.boxes * np.float32([W / w, H / h] * 2), masks=masks)

    def within_image(self) -> 'Prediction':
        """Clip the boxes to the image and leave out objects of which nothing remains."""
        limits = np.array([self.size[1], self.size[0]] * 2, np.float32)
        clipped = replace(self, boxes=np.clip(self.boxes, 0, limits))
        return clipped.select((clipped.boxes[:, 2:] > clipped.boxes[:, :2]).all(1))

    def to_supervision(self, categories: Categories) -> 'sv.Detections':
        """Return the objects as supervision's Detections, with ``class_name`` in its data."""
        import supervision as sv

        masks = None
        if self.masks:
            masks = np.stack([decode_mask(rle) for rle in self.masks])
        names = np.array([categories.names[k] for k in self.labels], dtype=str)
        return sv.Detections(
            self.boxes, mask=masks, confidence=self.scores, class_id=self.labels, data=dict(class_name=names)
        )

    def to_coco(self, image_id: int, categories: Categories) -> list[dict]:
        """Return COCO's result entries.

        One per object, with a segmentation if there are masks; for a label map one per class in it; for a
        classification one per class, without a box.
        """
        entries: list[dict] = []
        if self.classification:
            pairs = zip(self.labels, self.scores, strict=True)
            return [
                dict(image_id=image_id, category_id=categories.ids[label], score=float(score))
                for label, score in pairs
            ]
        if self.label_map is not None:
            labels = [label for label in np.unique(self.label_map) if label < len(categories.ids)]
            for label in labels:
                rle = encode_mask(self.label_map == label)
                entries.append(_entry(image_id, categories.ids[label], coco_mask.toBbox(rle).tolist(), rle))
            return entries
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            rle = self.masks[i] if self.masks else None
            entry = _entry(image_id, categories.ids[self.labels[i]], [x1, y1, x2 - x1, y2 - y1], rle)
            entries.append(entry | dict(score=float(self.scores[i])))
        return entries


def segments_of(panoptic: np.ndarray, categories: Categories) -> tuple[np.ndarray, list[dict]]:
    """Give numbers to the segments of a panoptic prediction.

    Args:
        panoptic: (H, W), see :class:`Prediction`.
        categories: classes of the model.

    Returns:
        (H, W) ids from 1, 0 for pixels without a segment, and COCO's ``segments_info``.
    """
    ids, entries = np.zeros(panoptic.shape, np.int64), []
    for number, value in enumerate(np.unique(panoptic[panoptic >= 0]), 1):
        mask, label = panoptic == value, int(value) % INSTANCE_OFFSET
        ids[mask] = number
        rle = encode_mask(mask)
        bbox = [int(v) for v in coco_mask.toBbox(rle)]
        is_thing = int(categories.num_things is None or label < categories.num_things)
        entry = dict(id=number, category_id=categories.ids[label], isthing=is_thing, iscrowd=0)
        entries.append(entry | dict(bbox=bbox, area=int(mask.sum())))
    return ids, entries


def _entry(image_id: int, category_id: int, bbox: list[float], rle: dict | None) -> dict:
    entry = dict(image_id=image_id, category_id=category_id, bbox=bbox, area=bbox[2] * bbox[3], iscrowd=0)
    if rle is not None:
        entry |= dict(segmentation=dict(rle, counts=rle['counts'].decode()), area=int(coco_mask.area(rle)))
    return entry


def encode_mask(mask: np.ndarray) -> dict:
    """(H, W), bool -> COCO's compressed run-length encoding."""
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def decode_mask(rle: dict) -> np.ndarray:
    """COCO's run-length encoding, ``counts`` as bytes or text -> (H, W), bool."""
    return coco_mask.decode(rle).astype(bool)


def place_mask(rle: dict, offset: tuple[int, int], size: tuple[int, int]) -> dict:
    """Encode a mask as part of a larger image, without creating the large mask.

    Args:
        rle: run-length encoding of the small image.
        offset: (y, x) of its corner in the large image.
        size: (H, W) of the large image, which contains all of the small one.
    """
    (y0, x0), (h, _), (H, W) = offset, rle['size'], size
    # concatenated columns with a zero after each, so that no run continues into the next column
    columns = np.pad(coco_mask.decode(rle).T, ((0, 0), (0, 1))).ravel().astype(np.int8)
    steps = np.diff(columns, prepend=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    # (runs, 2): start and end of each run in the large image
    edges = np.stack([(x0 + at // (h + 1)) * H + y0 + at % (h + 1) for at in (starts, ends)], 1)
    if not len(edges):
        return coco_mask.frPyObjects(dict(counts=[H * W], size=[H, W]), H, W)
    joined = np.flatnonzero(edges[1:, 0] == edges[:-1, 1])  # adjacent full columns are one run
    flat = np.delete(edges.ravel(), np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(np.concatenate([[0], flat, [H * W]])).tolist()
    return coco_mask.frPyObjects(dict(counts=counts[:-1] if counts[-1] == 0 else counts, size=[H, W]), H, W)
