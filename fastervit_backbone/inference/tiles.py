"""Large images: split into overlapping tiles, and the predictions of the tiles merged."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np

from ..structures.prediction import Prediction, place_mask
from ..utils.errors import UserError

#: Boxes of one class with at least this intersection over union are the same object.
NMS_IOU = 0.5
#: A box cut by its tile is dropped where a larger box of another tile covers this fraction of it.
COVERED = 0.6
#: A box within this many pixels of its tile's edge counts as cut.
EDGE = 2.0

#: (y1, x1, y2, x2), pixels.
Box = tuple[int, int, int, int]


def tile_boxes(size: tuple[int, int], tile: int, overlap: float) -> list[Box]:
    """Cover an image with evenly spaced tiles of one size (smaller only where the image is).

    Args:
        size: (H, W) of the image.
        tile: side of a tile, pixels.
        overlap: minimum overlap of neighboring tiles as a fraction of their side, [0, 1).

    Returns:
        tiles as (y1, x1, y2, x2).

    Raises:
        UserError: a tile below 32 pixels, or an overlap out of range.
    """
    if tile < 32:
        raise UserError(f'--tile {tile}: must be at least 32 pixels')
    if not 0 <= overlap < 1:
        raise UserError(f'--overlap {overlap}: must be at least 0 and below 1')
    step = max(1, int(tile * (1 - overlap)))
    starts = []
    for length in size:
        last = max(0, length - tile)
        count = 1 + int(np.ceil(last / step))
        starts.append(np.linspace(0, last, count).round().astype(int).tolist())
    H, W = size
    return [(y, x, min(y + tile, H), min(x + tile, W)) for y in starts[0] for x in starts[1]]


def merge_objects(size: tuple[int, int], tiles: list[Box], parts: list[Prediction]) -> Prediction:
    """Merge the objects of all tiles: drop pieces of objects that another tile has whole, then NMS per class.

    Args:
        size: (H, W) of the image.
        tiles: as returned by :func:`tile_boxes`; one may be the whole image.
        parts: prediction of each tile, in its pixels.

    Returns:
        the objects, in pixels of the whole image.
    """
    H, W = size
    boxes, is_cut, tile_index = [], [], []
    for i, ((y1, x1, y2, x2), part) in enumerate(zip(tiles, parts, strict=True)):
        shifted = part.boxes + np.array([x1, y1, x1, y1], np.float32)
        inner_edges = [x1 > 0, y1 > 0, x2 < W, y2 < H]  # not edges of the image itself
        touches_edge = np.abs(shifted - np.array([x1, y1, x2, y2], np.float32)) < EDGE
        boxes.append(shifted)
        is_cut.append((touches_edge & inner_edges).any(1))
        tile_index.append(np.full(len(shifted), i))
    everything = Prediction(
        size,
        np.concatenate(boxes).reshape(-1, 4),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
    tile_of = np.concatenate(tile_index)
    kept = np.flatnonzero(~_covered_pieces(everything, np.concatenate(is_cut), tile_of))
    left, top, right, bottom = everything.boxes[kept].T.astype(float)
    corners_and_sides = np.stack((left, top, right - left, bottom - top), 1)
    scores, labels = everything.scores[kept], everything.labels[kept].astype(int)
    best: Sequence[int] = []
    if len(kept):
        objects = corners_and_sides.tolist(), scores.tolist(), labels.tolist()
        best = cv2.dnn.NMSBoxesBatched(*objects, 0.0, NMS_IOU)
    kept = kept[np.asarray(best, int)]
    merged = everything.select(kept)
    if all(part.masks is None for part in parts):
        return merged
    first = np.cumsum([0, *map(len, parts)])  # index of each tile's first object
    masks = []
    for k in kept:
        i = tile_of[k]
        masks.append(place_mask(parts[i].masks[k - first[i]], tiles[i][:2], size))
    return Prediction(size, merged.boxes, merged.scores, merged.labels, masks)


def _covered_pieces(objects: Prediction, is_cut: np.ndarray, tile_of: np.ndarray) -> np.ndarray:
    """Whether each object is cut by its tile and covered by a larger one of its class in another tile."""
    pieces = np.zeros(len(objects), bool)
    area = np.prod(objects.boxes[:, 2:] - objects.boxes[:, :2], 1)
    for i in np.flatnonzero(is_cut):
        others = (objects.labels == objects.labels[i]) & (tile_of != tile_of[i]) & (area > area[i])
        boxes = objects.boxes[others]
        low = np.maximum(boxes[:, :2], objects.boxes[i, :2])
        high = np.minimum(boxes[:, 2:], objects.boxes[i, 2:])
        pieces[i] = (np.prod((high - low).clip(0), 1) >= COVERED * area[i]).any()
    return pieces


def merge_label_maps(
    size: tuple[int, int], tiles: list[Box], predict: Callable[[Box], np.ndarray]
) -> np.ndarray:
    """Merge the label maps of all tiles; each pixel is taken from the tile whose center is nearer.

    Args:
        size: (H, W) of the image.
        tiles: as returned by :func:`tile_boxes`.
        predict: returns the label map of a tile.
    """
    result = None
    for (top, left, bottom, right), (y1, x1, y2, x2) in _used_parts(size, tiles):
        labels = predict((top, left, bottom, right))
        if result is None:
            result = np.zeros(size, labels.dtype)
        result[y1:y2, x1:x2] = labels[y1 - top : y2 - top, x1 - left : x2 - left]
    assert result is not None
    return result


def _used_parts(size: tuple[int, int], tiles: list[Box]) -> Iterator[tuple[Box, Box]]:
    """Yield each tile with its used part, from the middle of one overlap to the middle of the next."""
    spans = []
    for axis in (0, 1):
        intervals = sorted({(box[axis], box[axis + 2]) for box in tiles})
        bounds = [0, *((a[1] + b[0]) // 2 for a, b in pairwise(intervals)), size[axis]]
        spans.append(dict(zip(intervals, pairwise(bounds), strict=True)))
    for box in tiles:
        (y1, y2), (x1, x2) = spans[0][box[0], box[2]], spans[1][box[1], box[3]]
        yield box, (y1, x1, y2, x2)
