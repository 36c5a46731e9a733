"""Images too large for one look: cut into overlapping tiles, and what was found in them put together."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torchvision.ops import batched_nms

from ..structures.prediction import Prediction, place_mask
from ..utils.errors import UserError

#: Objects of a class whose boxes have this intersection over union are one.
SAME = 0.5
#: A box cut off by its tile goes where another tile's box of its class covers this part of it.
COVERED = 0.6
#: Pixels from a tile's edge within which a box counts as cut off.
EDGE = 2.0

Box = tuple[int, int, int, int]


def tile_boxes(size: tuple[int, int], tile: int, overlap: float) -> list[Box]:
    """Tiles (y1, x1, y2, x2) that cover an image, all of one size (less where the image is smaller), evenly spread.

    Args:
        size: (H, W) of the image.
        tile: side of a tile, pixels.
        overlap: least part of a tile's side that its neighbour shows too, [0, 1).

    Raises:
        UserError: a tile below 32 pixels, or an overlap out of range.
    """
    if tile < 32:
        raise UserError(f'--tile {tile}: at least 32 pixels')
    if not 0 <= overlap < 1:
        raise UserError(f'--overlap {overlap}: from 0 to below 1')
    starts = []
    for length in size:
        count = 1 if length <= tile else 1 + int(np.ceil((length - tile) / max(1, int(tile * (1 - overlap)))))
        starts.append(np.linspace(0, max(0, length - tile), count).round().astype(int).tolist())
    H, W = size
    return [(y, x, min(y + tile, H), min(x + tile, W)) for y in starts[0] for x in starts[1]]


def merge_objects(size: tuple[int, int], tiles: list[Box], found: list[Prediction]) -> Prediction:
    """Objects of all tiles, in pixels of the whole image: non-maximum suppression by class, and no pieces of objects found whole.

    Args:
        size: (H, W) of the image.
        tiles: as :func:`tile_boxes`; one may be the whole image.
        found: in each of them.
    """
    H, W = size
    boxes, cut, origin = [], [], []
    for i, ((y1, x1, y2, x2), part) in enumerate(zip(tiles, found, strict=True)):
        b = part.boxes + np.float32([x1, y1, x1, y1])
        inner = [x1 > 0, y1 > 0, x2 < W, y2 < H]
        near = np.abs(b - np.float32([x1, y1, x2, y2])) < EDGE
        boxes.append(b)
        cut.append((near & inner).any(1))
        origin.append(np.full(len(b), i))
    whole = Prediction(
        size,
        np.concatenate(boxes).reshape(-1, 4),
        np.concatenate([p.scores for p in found]),
        np.concatenate([p.labels for p in found]),
    )
    cut, origin = np.concatenate(cut), np.concatenate(origin)
    pieces = _covered(whole, cut, origin)
    kept = np.flatnonzero(~pieces)
    order = batched_nms(
        *(torch.from_numpy(a[kept]) for a in (whole.boxes, whole.scores, whole.labels)), SAME
    ).numpy()
    kept = kept[order]
    merged = whole.select(kept)
    if all(p.masks is None for p in found):
        return merged
    first = np.cumsum([0, *map(len, found)])
    masks = [
        place_mask(found[origin[k]].masks[k - first[origin[k]]], tiles[origin[k]][:2], size) for k in kept
    ]
    return Prediction(size, merged.boxes, merged.scores, merged.labels, masks)


def _covered(whole: Prediction, cut: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Which boxes are pieces: cut off by their tile, and covered by one of another tile that is larger."""
    pieces = np.zeros(len(whole), bool)
    area = np.prod(whole.boxes[:, 2:] - whole.boxes[:, :2], 1)
    for i in np.flatnonzero(cut):
        others = (whole.labels == whole.labels[i]) & (origin != origin[i]) & (area > area[i])
        b = whole.boxes[others]
        inside = np.minimum(b[:, 2:], whole.boxes[i, 2:]) - np.maximum(b[:, :2], whole.boxes[i, :2])
        pieces[i] = (np.prod(inside.clip(0), 1) >= COVERED * area[i]).any()
    return pieces


def merge_label_maps(
    size: tuple[int, int], tiles: list[Box], predict: Callable[[Box], np.ndarray]
) -> np.ndarray:
    """A label map of the whole image; where tiles overlap, each gives the pixels nearer to its own middle.

    Args:
        size: (H, W) of the image.
        tiles: as :func:`tile_boxes`.
        predict: the label map of a tile.
    """
    result = None
    for box, inner in _inner(size, tiles):
        labels = predict(box)
        if result is None:
            result = np.zeros(size, labels.dtype)
        y1, x1, y2, x2 = inner
        result[y1:y2, x1:x2] = labels[y1 - box[0] : y2 - box[0], x1 - box[1] : x2 - box[1]]
    return result


def _inner(size: tuple[int, int], tiles: list[Box]) -> Iterator[tuple[Box, Box]]:
    """(tile, the part of it that counts): from the middle of one overlap to the middle of the next."""
    spans = []
    for axis in (0, 1):
        intervals = sorted({(box[axis], box[axis + 2]) for box in tiles})
        bounds = [0, *((a[1] + b[0]) // 2 for a, b in pairwise(intervals)), size[axis]]
        spans.append({interval: (bounds[i], bounds[i + 1]) for i, interval in enumerate(intervals)})
    for box in tiles:
        (y1, y2), (x1, x2) = spans[0][box[0], box[2]], spans[1][box[1], box[3]]
        yield box, (y1, x1, y2, x2)
