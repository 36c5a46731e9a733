"""Polygons of masks draw exactly the mask, with pycocotools and by an even-odd rule of our own."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fastervit_backbone.structures.polygons import polygons_of


def drawn(polygons, size):
    if not polygons:
        return np.zeros(size, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))).astype(bool)


def even_odd(polygons, size):
    """Count the edges above the center of every pixel."""
    inside = np.zeros(size, bool)
    for polygon in polygons:
        points = np.array(polygon).reshape(-1, 2)
        crossings = np.zeros(size, int)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, 0), strict=True):
            assert x1 == x2 or y1 == y2  # along the sides of pixels
            columns = slice(int(min(x1, x2)), int(max(x1, x2)))
            crossings[int(y1) :, columns] += 1
        inside |= crossings % 2 == 1
    return inside


@pytest.mark.parametrize('density', [0.05, 0.3, 0.5, 0.7, 0.97, 1.0])
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (13, 20), (40, 31)])
def test_random_masks(size, density):
    generator = np.random.default_rng(0)
    for _ in range(20):
        mask = generator.random(size) < density
        polygons = polygons_of(mask)
        assert np.array_equal(even_odd(polygons, size), mask)
        assert np.array_equal(drawn(polygons, size), mask)


def test_a_square_with_a_hole_is_one_polygon():
    mask = np.ones((5, 6), bool)
    mask[2, 3] = False
    assert polygons_of(mask) == [
        [0, 0, 3, 0, 3, 2, 3, 3, 4, 3, 4, 2, 3, 2, 3, 0, 6, 0, 6, 5, 0, 5],
    ]
    assert polygons_of(np.zeros((4, 4), bool)) == []
    mask = np.eye(3, dtype=bool)  # pixels that touch by a corner are parts of their own
    assert len(polygons_of(mask)) == 3 and np.array_equal(drawn(polygons_of(mask), (3, 3)), mask)
