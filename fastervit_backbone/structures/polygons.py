"""Masks as polygons and back, exact to the pixel."""

from collections.abc import Iterator

import cv2
import numpy as np

#: Directions along the edges of pixels, (dx, dy), each a quarter turn clockwise of the one before; y is down.
_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))

#: Corner of a pixel, (x, y).
Point = tuple[int, int]


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """Return COCO's polygons of a mask, from which pycocotools draws exactly this mask.

    Each part that is connected by the sides of its pixels is one polygon, along the sides of the outer ones.
    A hole is joined to the outline by a cut of no width, as COCO has no holes.

    Args:
        mask: (H, W), bool.

    Returns:
        ``[x1, y1, x2, y2, ...]`` for each part; none for an empty mask.
    """
    return [outline_of(part, corner) for part, corner in connected_parts(mask)]


def connected_parts(mask: np.ndarray) -> Iterator[tuple[np.ndarray, Point]]:
    """Yield the parts of a mask (H, W), bool, that are connected by the sides of their pixels.

    Yields:
        the part within its box (h, w), bool, and the box's upper left corner in the mask, (x, y).
    """
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    for part in range(1, count):
        x, y, w, h, _ = map(int, boxes[part])
        yield parts[y : y + h, x : x + w] == part, (x, y)


def outline_of(part: np.ndarray, corner: Point) -> list[float]:
    """Return COCO's polygon of a connected part, as :func:`connected_parts` yields it."""
    outline, *holes = _loops(part)
    # from top to bottom: what is above a hole is part of the outline then
    for hole in sorted(map(_from_top, holes), key=lambda hole: hole[0][1]):
        outline = _join(outline, hole)
    return [float(v) for x, y in outline for v in (x + corner[0], y + corner[1])]


def _loops(inside: np.ndarray) -> list[list[Point]]:
    """Return the corners of each closed line around a connected part, the outer one first.

    The part is to the right of a line. At a point where two of its pixels touch by a corner only, the line
    turns right and stays with its pixel.
    """
    padded = np.pad(inside, 1)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]  # around each point
    # points (x, y) from which an edge goes right, down, left, up
    starts = [
        {(int(x), int(y)) for y, x in zip(*np.nonzero(right & ~left), strict=True)}
        for right, left in ((se, ne), (sw, se), (nw, sw), (ne, nw))
    ]
    rightward, loops = sorted(starts[0], key=lambda point: point[::-1]), []
    seen: set[Point] = set()
    for first in rightward:
        if first in seen:
            continue
        loop: list[Point] = []
        point, direction = first, 0
        while True:
            loop.append(point)
            while True:  # along a straight line
                if direction == 0:
                    seen.add(point)
                dx, dy = _DIRECTIONS[direction]
                point = (point[0] + dx, point[1] + dy)
                turns = ((direction + 1) % 4, direction, (direction + 3) % 4)  # right, straight on, left
                turn = next(d for d in turns if point in starts[d])
                if turn != direction or (point, turn) == (first, 0):
                    break
            direction = turn
            if (point, direction) == (first, 0):
                break
        loops.append(loop)
    return loops


def _from_top(loop: list[Point]) -> list[Point]:
    """Let a line begin at its topmost corner."""
    start = min(range(len(loop)), key=lambda i: loop[i][::-1])
    return loop[start:] + loop[:start]


def _join(outline: list[Point], hole: list[Point]) -> list[Point]:
    """Join a hole to the line around it: from its topmost corner straight up, and back the same way."""
    x, y = hole[0]
    above = [
        (a[1], i)
        for i, (a, b) in enumerate(zip(outline, [*outline[1:], outline[0]], strict=True))
        if a[1] == b[1] < y and min(a[0], b[0]) <= x <= max(a[0], b[0])
    ]
    at, i = max(above)
    return [*outline[: i + 1], (x, at), *hole, hole[0], (x, at), *outline[i + 1 :]]
