"""Checkpoints of untrained models whose random weights detect something in any image."""

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from fastervit_backbone.datasets.shapes import make_shapes
from tests.helpers import CASCADE, UPERNET
from tests.mm_helpers import save_untrained


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=2, val=4, size=(96, 128))


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    classes = ('circle', 'square', 'triangle')
    meta = dict(classes=classes, category_ids=[7, 0, 90])
    return save_untrained(CASCADE, tmp_path_factory.mktemp('model') / 'detector.pth', dataset_meta=meta)


@pytest.fixture(scope='session')
def segmenter(tmp_path_factory):
    return save_untrained(UPERNET, tmp_path_factory.mktemp('model') / 'segmenter.pth')
