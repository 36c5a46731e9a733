"""Untrained models and images, as for the predictor, and their exported files."""

from functools import partial

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.export.run import export
from tests.helpers import SHALLOW_CASCADE, SHALLOW_FPN, once
from tests.inference.conftest import segmenter  # noqa: F401 (fixture)
from tests.mm_helpers import save_untrained

SIZE = (128, 160)


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    make = partial(make_shapes, train=2, val=4, size=SIZE)
    return once(tmp_path_factory, 'images', lambda folder: make(folder / 'shapes'))


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    meta = dict(classes=('circle', 'square', 'triangle'), category_ids=[7, 0, 90])
    save = partial(save_untrained, SHALLOW_CASCADE, dataset_meta=meta)
    return once(tmp_path_factory, 'shallow', lambda folder: save(folder / 'detector.pth'))


@pytest.fixture(scope='session')
def fpn(tmp_path_factory):
    return save_untrained(SHALLOW_FPN, tmp_path_factory.mktemp('model') / 'fpn.pth')


@pytest.fixture(scope='session')
def exported_detector(detector, images, tmp_path_factory):
    """The detector as ONNX, and how it compares on labeled images."""
    data = dict(verify=images / 'images/val', annotations=images / 'annotations/instances_val.json')
    make = partial(export, SHALLOW_CASCADE, detector, size=SIZE, **data)
    return once(tmp_path_factory, 'exported', make)
