import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('pycocotools')

from pycocotools import mask as mask_utils

from fastervit_backbone.datasets.shapes import CLASSES, draw_scene, make_shapes
from fastervit_backbone.structures.prediction import encode_mask
from fastervit_backbone.utils.errors import UserError


def pixels(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


def test_same_seed_same_bytes_and_nothing_twice(tmp_path):
    a = make_shapes(tmp_path / 'a', train=3, val=2, seed=1)
    b = make_shapes(tmp_path / 'b', train=3, val=2, seed=1)
    c = make_shapes(tmp_path / 'c', train=3, val=2, seed=2)
    assert pixels(a) == pixels(b) != pixels(c)
    before = (a / 'shapes.json').stat().st_mtime_ns
    make_shapes(a, train=3, val=2, seed=1)
    assert (a / 'shapes.json').stat().st_mtime_ns == before
    make_shapes(a, train=2, val=2, seed=1)
    assert len(list((a / 'images' / 'train').iterdir())) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'b', 'c']


def test_annotations_say_what_the_pictures_show(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=12, val=1, size=(96, 128))
    coco = json.loads((root / 'annotations' / 'instances_train.json').read_text())
    assert [c['name'] for c in coco['categories']] == list(CLASSES)
    assert {a['category_id'] for a in coco['annotations']} == {1, 2, 3}
    for info in coco['images']:
        labels = np.asarray(Image.open(root / 'labels' / 'train' / info['file_name']))
        assert labels.shape == (96, 128) == (info['height'], info['width'])
        union = np.zeros_like(labels)
        for a in (a for a in coco['annotations'] if a['image_id'] == info['id']):
            rle = a['segmentation']
            mask = mask_utils.decode(rle).astype(bool)
            assert a['area'] == mask.sum() and a['bbox'] == mask_utils.toBbox(rle).tolist()
            assert not union[mask].any()
            union[mask] = a['category_id']
        assert np.array_equal(union, labels)


@pytest.mark.parametrize('seed', range(5))
def test_shapes_have_their_areas(seed):
    """An unoccluded shape fills its box as geometry says: circle pi/4, upright square 1, triangle 1/2."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(30):
        image, objects = draw_scene(rng, (144, 176))
        assert image.dtype == np.uint8 and image.std() > 5
        for label, mask in objects[-1:]:  # the last is on top
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if rows[0] > 0 and cols[0] > 0 and rows[-1] < 143 and cols[-1] < 175:
                found.append((label, mask.sum() / np.ptp(rows) / np.ptp(cols)))
    means = [np.mean([fill for label, fill in found if label == k]) for k in range(3)]
    assert means[0] == pytest.approx(np.pi / 4, abs=0.06)
    assert 0.65 < means[1] < 1 and 0.4 < means[2] < 0.6  # turned by up to 0.3 rad


@pytest.mark.parametrize('mask', [[[0, 0], [0, 0]], [[1, 1], [1, 1]], [[1, 0], [0, 1]], [[0, 1], [0, 0]]])
def test_run_lengths(mask):
    mask = np.array(mask, bool)
    assert np.array_equal(mask_utils.decode(encode_mask(mask)), mask)


def test_bad_numbers_and_foreign_folders(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('do not lose this')
    with pytest.raises(UserError, match='not empty'):
        make_shapes(tmp_path / 'mine')
    with pytest.raises(UserError, match='val=0'):
        make_shapes(tmp_path / 'x', val=0)
    assert (tmp_path / 'mine' / 'thesis.txt').read_text() == 'do not lose this' and not (
        tmp_path / 'x'
    ).exists()


def test_a_folder_that_cannot_be_written_or_is_broken(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match=r'cannot write to .*file, which is a file'):
        make_shapes(tmp_path / 'file' / 'shapes', train=1, val=1)
    root = make_shapes(tmp_path / 'shapes', train=1, val=1)
    (root / 'shapes.json').write_text('{')
    with pytest.raises(
        UserError, match=r'shapes\.json is broken .*: remove .*shapes, or name another folder'
    ):
        make_shapes(root, train=1, val=1)
