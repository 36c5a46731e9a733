"""What a model found in an image, and how that is written down."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class Categories:
    """The classes of a model.

    Args:
        names: in the order of the model's labels.
        ids: what the data set calls them: category ids of a COCO json, values of a label map.
        own: whether the ids are known to be the data set's; else they count from 1 (objects) or 0 (label maps).
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    own: bool = True

    def as_coco(self) -> list[dict]:
        """COCO's ``categories``."""
        return [dict(id=i, name=name) for i, name in zip(self.ids, self.names, strict=True)]


@dataclass(frozen=True)
class Prediction:
    """Objects of an image, or its label map.

    Args:
        size: (H, W) of the image, pixels.
        boxes: (N, 4), float32, x1 y1 x2 y2 in pixels of the image.
        scores: (N,), float32, 0..1, falling.
        labels: (N,), whole numbers, indices of the classes.
        masks: None, or N of COCO's compressed run-length codes, each of the image's size.
        label_map: None, or (H, W), indices of the classes, uint8 (uint16 beyond 256 classes): semantic segmentation.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict] | None = None
    label_map: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, which: np.ndarray) -> 'Prediction':
        """These objects alone; ``which``: indices, or one bool an object."""
        which = np.flatnonzero(which) if which.dtype == bool else which
        masks = None if self.masks is None else [self.masks[i] for i in which]
        return replace(
            self, boxes=self.boxes[which], scores=self.scores[which], labels=self.labels[which], masks=masks
        )

    def resize(self, size: tuple[int, int]) -> 'Prediction':
        """As if the image had been (H, W) = ``size``: boxes and masks, made one after the other."""
        (h, w), (H, W) = self.size, size
        masks = self.masks
        if masks is not None:
            small = (np.ascontiguousarray(coco_mask.decode(code)) for code in masks)
            resized = (cv2.resize(mask, (W, H), interpolation=cv2.INTER_NEAREST) for mask in small)
            masks = [encode_mask(mask) for mask in resized]
        return replace(self, size=size, boxes=self.boxes * np.float32([W / w, H / h] * 2), masks=masks)

    def to_coco(self, image_id: int, categories: Categories) -> list[dict]:
        """COCO's result entries: a box, and a segmentation where there are masks, for each object; of a label map one for each class."""
        if self.label_map is not None:
            present = np.unique(self.label_map)
            codes = {
                int(label): encode_mask(self.label_map == label)
                for label in present
                if label < len(categories.ids)
            }
            return [
                _entry(image_id, categories.ids[k], coco_mask.toBbox(code).tolist(), code)
                for k, code in codes.items()
            ]
        entries = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            entry = _entry(
                image_id,
                categories.ids[self.labels[i]],
                [x1, y1, x2 - x1, y2 - y1],
                self.masks and self.masks[i],
            )
            entries.append(entry | dict(score=float(self.scores[i])))
        return entries


def _entry(image_id: int, category_id: int, bbox: list[float], code: dict | None) -> dict:
    entry = dict(image_id=image_id, category_id=category_id, bbox=bbox, area=bbox[2] * bbox[3], iscrowd=0)
    if code is not None:
        entry |= dict(segmentation=dict(code, counts=code['counts'].decode()), area=int(coco_mask.area(code)))
    return entry


def encode_mask(mask: np.ndarray) -> dict:
    """(H, W), bool -> COCO's compressed run-length code."""
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def decode_mask(code: dict) -> np.ndarray:
    """COCO's run-length code, its ``counts`` bytes or text -> (H, W), bool."""
    return coco_mask.decode(code).astype(bool)


def place_mask(code: dict, offset: tuple[int, int], size: tuple[int, int]) -> dict:
    """The run-length code of a mask that lies in a larger image, without making either mask.

    Args:
        code: of the small image.
        offset: (y, x) of its corner in the large one.
        size: (H, W) of the large one, which holds the small one whole.
    """
    (y0, x0), (h, _), (H, W) = offset, code['size'], size
    small = coco_mask.decode(code)
    # columns below each other with a zero after each, so that no run goes on into the next column
    columns = np.pad(small.T, ((0, 0), (0, 1))).ravel().astype(np.int8)
    steps = np.diff(columns, prepend=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    edges = np.stack(
        [
            (x0 + starts // (h + 1)) * H + y0 + starts % (h + 1),
            (x0 + ends // (h + 1)) * H + y0 + ends % (h + 1),
        ],
        1,
    )
    if not len(edges):
        return coco_mask.frPyObjects(dict(counts=[H * W], size=[H, W]), H, W)
    joined = np.flatnonzero(edges[1:, 0] == edges[:-1, 1])  # full columns side by side are one run
    flat = np.delete(edges.ravel(), np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(np.concatenate([[0], flat, [H * W]])).tolist()
    return coco_mask.frPyObjects(dict(counts=counts[:-1] if counts[-1] == 0 else counts, size=[H, W]), H, W)
