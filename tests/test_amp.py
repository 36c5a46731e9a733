"""Fifty steps of every family with a backbone in bfloat16: every loss and gradient is finite."""

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmdet.testing import demo_mm_inputs
from mmengine.registry import init_default_scope

from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.runner.build import build_untrained
from tests.helpers import ROOT
from tests.mm_helpers import semantic_batch


@pytest.mark.slow
@pytest.mark.parametrize('family', ['cascade', 'dino', 'upernet', 'fpn'])
def test_fifty_steps(family, monkeypatch):
    config = load_config(ROOT / 'configs' / 'demo' / f'{family}_shapes.py')
    init_default_scope(config.default_scope)
    model = build_untrained(config.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    forward = model.backbone.forward

    def mixed(images):  # mmcv's CPU operators do not support bfloat16
        with torch.autocast('cpu', torch.bfloat16):
            maps = forward(images)
        assert maps[0].dtype == torch.bfloat16
        return tuple(m.float() for m in maps)

    monkeypatch.setattr(model.backbone, 'forward', mixed)
    for step in range(50):
        if config.default_scope == 'mmseg':
            batch = semantic_batch(4)
        else:
            objects = [2, 0] if step % 5 else [0, 0]
            batch = demo_mm_inputs(
                2,
                [[3, 96, 128], [3, 120, 80]],
                num_items=objects,
                num_classes=3,
                with_mask=family == 'cascade',
            )
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        total, parts = model.parse_losses(losses)
        assert all(torch.isfinite(v) for v in parts.values()), (step, parts)
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()), step
        optimizer.step()
