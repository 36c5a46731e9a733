"""Training of the heads alone."""

import torch

from fastervit_backbone.checkpoints.io import NANO, read_checkpoint, resolve_checkpoint, unwrap_state_dict
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.finetune import finetune


def test_a_frozen_backbone_stays_and_the_rest_learns(tmp_path):
    data = make_shapes(tmp_path / 'shapes', train=4, val=2, size=(64, 96))
    options = dict(arch='nano', model='fpn', epochs=1, batch=2, size=(64, 96), tune='heads')
    labels = dict(train=data / 'labels/train', val=data / 'labels/val', classes=['a', 'b', 'c', 'd'])
    images = [data / 'images/train', data / 'images/val']
    result = finetune(**labels, images=images, **options, work_dir=tmp_path / 'run')
    trained = unwrap_state_dict(read_checkpoint(result.best))
    start = unwrap_state_dict(read_checkpoint(resolve_checkpoint(NANO)))
    frozen = [n for n in start if f'backbone.{n}' in trained and not n.startswith(('out_norms', 'head'))]
    assert len(frozen) > 200
    for name in frozen:  # those of the package have 16 bits
        found = trained[f'backbone.{name}']
        torch.testing.assert_close(found, start[name].to(found.dtype), rtol=0, atol=0)
    assert any(name.startswith('decode_head.') for name in trained)
