"""Tiles cover the image, masks are placed correctly, objects are found once, label maps have no seams."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastervit_backbone.inference.tiles import merge_label_maps, merge_objects, tile_boxes
from fastervit_backbone.structures.prediction import (
    Categories,
    Prediction,
    decode_mask,
    encode_mask,
    place_mask,
)
from fastervit_backbone.utils.errors import UserError


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(32, 300), st.floats(0, 0.9))
def test_tiles_cover_with_their_overlap(height, width, tile, overlap):
    boxes = tile_boxes((height, width), tile, overlap)
    seen = np.zeros((height, width), int)
    for y1, x1, y2, x2 in boxes:
        assert (y2 - y1, x2 - x1) == (min(tile, height), min(tile, width))
        seen[y1:y2, x1:x2] += 1
    assert seen.min() >= 1
    for axis, length in ((0, height), (1, width)):
        starts = sorted({b[axis] for b in boxes})
        assert starts[0] == 0 and starts[-1] == max(0, length - tile)
        assert all(b - a <= max(1, int(tile * (1 - overlap))) + 1 for a, b in pairwise(starts))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**31))
def test_placed_masks(h, w, y, x, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((h, w)) < rng.choice([0, 0.3, 0.8, 1])
    size = (y + h + int(rng.integers(0, 4)), x + w + int(rng.integers(0, 4)))
    whole = np.zeros(size, bool)
    whole[y : y + h, x : x + w] = mask
    placed = place_mask(encode_mask(mask), (y, x), size)
    assert np.array_equal(decode_mask(placed), whole)
    assert placed['counts'] == encode_mask(whole)['counts']


def objects(*rows, masks=None):
    rows = np.array(rows, np.float32).reshape(-1, 6)
    return Prediction((100, 100), rows[:, :4], rows[:, 4], rows[:, 5].astype(int), masks)


def test_objects_of_tiles():
    tiles = [(0, 0, 100, 60), (0, 40, 100, 100), (0, 0, 100, 100)]
    left = objects(
        (5, 5, 20, 20, 0.9, 0),  # in only one tile
        (42, 30, 58, 50, 0.8, 1),  # whole in both tiles
        (30, 60, 60, 80, 0.95, 2),  # cut at 60: a piece of a larger object
        (50, 85, 60, 95, 0.7, 2),  # also at the edge, but in no other tile
    )
    right = objects((2, 30, 18, 50, 0.85, 1), (0, 60, 50, 80, 0.6, 2))
    whole = objects((30, 60, 90, 80, 0.5, 2), (5, 5, 20, 20, 0.4, 1))  # another class on the same place stays
    merged = merge_objects((100, 100), tiles, [left, right, whole])
    found = {
        (tuple(b), int(k), round(float(s), 2))
        for b, k, s in zip(merged.boxes.tolist(), merged.labels, merged.scores, strict=True)
    }
    assert found == {
        ((5, 5, 20, 20), 0, 0.9),
        ((42, 30, 58, 50), 1, 0.85),
        ((30, 60, 90, 80), 2, 0.5),
        ((50, 85, 60, 95), 2, 0.7),
        ((5, 5, 20, 20), 1, 0.4),
    }
    assert (np.diff(merged.scores) <= 0).all()


def test_masks_of_tiles():
    tiles = [(0, 0, 100, 60), (0, 40, 100, 100)]
    rng = np.random.default_rng(0)
    masks = [rng.random((100, 60)) < 0.5 for _ in range(2)]
    parts = [objects((5, 5, 20, 20, 0.5 + i / 10, i), masks=[encode_mask(m)]) for i, m in enumerate(masks)]
    merged = merge_objects((100, 100), tiles, parts)
    assert merged.labels.tolist() == [1, 0]
    assert (
        np.array_equal(decode_mask(merged.masks[0])[:, 40:], masks[1])
        and not decode_mask(merged.masks[0])[:, :40].any()
    )
    assert np.array_equal(decode_mask(merged.masks[1])[:, :60], masks[0])
    empty = merge_objects((100, 100), tiles, [objects(), objects()])
    assert len(empty) == 0


@pytest.mark.parametrize(('size', 'tile'), [((97, 131), 40), ((40, 300), 64), ((33, 33), 64)])
def test_label_maps_are_seamless(size, tile):
    """The result is as without tiles, and labels near a tile's edge are taken from its neighbor."""
    truth = np.random.default_rng(0).integers(0, 9, size).astype(np.uint8)
    tiles = tile_boxes(size, tile, 0.3)

    def predict(box):
        y1, x1, y2, x2 = box
        labels = truth[y1:y2, x1:x2].copy()
        rows, columns = (np.s_[:4], np.s_[-4:]), (np.s_[:, :4], np.s_[:, -4:])
        inner_edges = (y1 > 0, y2 < size[0], x1 > 0, x2 < size[1])
        for border, is_inner in zip(rows + columns, inner_edges, strict=True):
            if is_inner:
                labels[border] = 99
        return labels

    assert np.array_equal(merge_label_maps(size, tiles, predict), truth)


def test_bad_tiles():
    for tile, overlap in ((8, 0.2), (64, 1.0), (64, -0.1)):
        with pytest.raises(UserError, match=r'tile|overlap'):
            tile_boxes((100, 100), tile, overlap)


def test_entries_of_a_label_map():
    label_map = np.array([[0, 0, 2], [255, 2, 2]], np.uint8)
    prediction = Prediction((2, 3), np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), None, label_map)
    entries = prediction.to_coco(5, Categories(('a', 'b', 'c'), (1, 2, 3)))
    assert [(e['category_id'], e['area'], e['image_id']) for e in entries] == [(1, 2, 5), (3, 3, 5)]
    assert np.array_equal(decode_mask(entries[1]['segmentation']), label_map == 2)


def test_resized_predictions():
    mask = np.zeros((10, 20), bool)
    mask[2:5, 4:8] = True
    prediction = objects((4, 2, 8, 5, 0.9, 1), masks=[encode_mask(mask)])  # in an image of 100x100
    larger = prediction.resize((200, 100))
    assert larger.boxes.tolist() == [[4, 4, 8, 10]] and larger.masks[0]['size'] == [200, 100]
    whole = decode_mask(larger.masks[0])
    assert whole.sum() == mask.sum() * 20 * 5 and whole[40:100, 20:40].all()
