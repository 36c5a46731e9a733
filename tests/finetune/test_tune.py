"""Training of the heads alone, and of adapters in a frozen backbone."""

import pytest
import torch

from fastervit_backbone.checkpoints.io import NANO, read_checkpoint, resolve_checkpoint, unwrap_state_dict
from fastervit_backbone.datasets.images import read_image
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.finetune import finetune
from fastervit_backbone.finetune.flat_config import _learn_at_full_rate
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.publish import publish
from fastervit_backbone.utils.errors import UserError


@pytest.fixture
def data(tmp_path):
    """Options that name label maps of four classes."""
    folder = make_shapes(tmp_path / 'shapes', train=4, val=2, size=(64, 96))
    labels = dict(train=folder / 'labels/train', val=folder / 'labels/val', classes=['a', 'b', 'c', 'd'])
    return labels | dict(images=[folder / 'images/train', folder / 'images/val'])


def test_a_frozen_backbone_stays_and_the_rest_learns(data, tmp_path):
    options = data | dict(arch='nano', model='fpn', epochs=1, batch=2, size=(64, 96), tune='heads')
    result = finetune(**options, work_dir=tmp_path / 'run')
    trained = unwrap_state_dict(read_checkpoint(result.best))
    start = unwrap_state_dict(read_checkpoint(resolve_checkpoint(NANO)))
    frozen = [n for n in start if f'backbone.{n}' in trained and not n.startswith(('out_norms', 'head'))]
    assert len(frozen) > 200
    for name in frozen:  # those of the package have 16 bits
        found = trained[f'backbone.{name}']
        torch.testing.assert_close(found, start[name].to(found.dtype), rtol=0, atol=0)
    assert any(name.startswith('decode_head.') for name in trained)


def test_adapters_learn_and_are_merged(data, tmp_path):
    options = data | dict(arch='nano', model='fpn', epochs=2, batch=2, size=(64, 96), tune='adapters')
    result = finetune(**options, work_dir=tmp_path / 'run')
    best, (last,) = read_checkpoint(result.best), (tmp_path / 'run').glob('best_*.pth')
    learned = unwrap_state_dict(read_checkpoint(last))
    adapters = [n for n in learned if n.endswith('lora_B')]
    assert len(adapters) > 20 and all(learned[n].any() for n in adapters)
    assert not any('lora_' in n for n in unwrap_state_dict(best))
    folder = publish(tmp_path / 'run', tmp_path / 'published')
    assert 'adapters' not in (folder / 'config.py').read_text()
    picture = read_image(next(data['images'][1].iterdir()))
    of_run, merged, published = (
        Predictor(*source)([picture])[0].label_map
        for source in ((result.config, last), (result.config, result.best), (folder,))
    )
    assert (of_run == merged).mean() > 0.999 and (merged == published).all()
    again = finetune(**options | dict(tune='all', epochs=1), start=last, work_dir=tmp_path / 'all')
    assert not any('lora_' in n for n in unwrap_state_dict(read_checkpoint(again.best)))
    with pytest.raises(UserError, match='--tune adapters --start nothing'):
        finetune(**options, start='nothing', work_dir=tmp_path / 'other')


@pytest.mark.parametrize(
    'paramwise_cfg', [dict(backbone_lr_mult=0.1), dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))]
)
def test_adapters_learn_at_the_full_rate(paramwise_cfg):
    """In DINO and Mask2Former a pretrained backbone learns at a tenth of it."""
    _learn_at_full_rate(paramwise_cfg)
    assert '0.1' not in str(paramwise_cfg) and '1.0' in str(paramwise_cfg)
