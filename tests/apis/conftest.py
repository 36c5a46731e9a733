"""Models with fresh, lively weights, saved as checkpoints: they find something in any image."""

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.registry import init_default_scope

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.config.adapt import fit_to_machine
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.runner.build import build_untrained
from tests.conftest import ROOT

CASCADE, UPERNET = (ROOT / 'configs' / 'demo' / f'{head}_shapes.py' for head in ('cascade', 'upernet'))


def save_untrained(config_path, path, *, options=None, dataset_meta=None):
    config = load_config(config_path, options)
    init_default_scope(config.default_scope)
    fit_to_machine(config, 'none')
    torch.manual_seed(0)
    model = build_untrained(config.model)
    with torch.no_grad():  # fresh heads say nearly the same of everything
        for name, p in model.named_parameters():
            if 'fc_cls' in name or 'conv_seg' in name:
                p.normal_(0, 0.5)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dataset_meta or {})), path)
    return path


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
