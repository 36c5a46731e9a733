"""Untrained models and images, as for the predictor, and their exported files."""

from functools import partial

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.export.run import export
from tests.helpers import CASCADE, FPN, once
from tests.inference.conftest import detector, segmenter  # noqa: F401 (fixtures)
from tests.mm_helpers import save_untrained

SIZE = (128, 160)


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    make = partial(make_shapes, train=2, val=4, size=SIZE)
    return once(tmp_path_factory, 'images', lambda folder: make(folder / 'shapes'))


@pytest.fixture(scope='session')
def fpn(tmp_path_factory):
    return save_untrained(FPN, tmp_path_factory.mktemp('model') / 'fpn.pth')


@pytest.fixture(scope='session')
def exported_detector(detector, images, tmp_path_factory):  # noqa: F811
    """The detector as ONNX, and how it compares on labeled images."""
    data = dict(verify=images / 'images/val', annotations=images / 'annotations/instances_val.json')
    make = partial(export, CASCADE, detector, size=SIZE, **data)
    return once(tmp_path_factory, 'exported', make)
