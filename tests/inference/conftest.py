"""Checkpoints of untrained models whose random weights detect something in any image."""

from functools import partial

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from fastervit_backbone.datasets.shapes import make_shapes
from tests.helpers import CASCADE, UPERNET, once
from tests.mm_helpers import save_untrained


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    make = partial(make_shapes, train=2, val=4, size=(96, 128))
    return once(tmp_path_factory, 'shapes', lambda folder: make(folder / 'shapes'))


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    classes = ('circle', 'square', 'triangle')
    meta = dict(classes=classes, category_ids=[7, 0, 90])
    save = partial(save_untrained, CASCADE, dataset_meta=meta)
    return once(tmp_path_factory, 'detector', lambda folder: save(folder / 'detector.pth'))


@pytest.fixture(scope='session')
def segmenter(tmp_path_factory):
    return once(
        tmp_path_factory, 'segmenter', lambda folder: save_untrained(UPERNET, folder / 'segmenter.pth')
    )
