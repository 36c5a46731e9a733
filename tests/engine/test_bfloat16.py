"""Training in bfloat16 on a CPU: finite, plain checkpoints, exact resume; configs of another machine."""

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.config import adaptations, mixed_precision
from fastervit_backbone.engine.config.adaptations import fit_to_machine
from fastervit_backbone.train import train
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, FEW_REGIONS, IN_PROCESS, UPERNET

EPOCHS = {'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 5}


@pytest.fixture
def bfloat16(monkeypatch):
    """A CPU that computes in bfloat16, if need be emulated."""
    for module in (adaptations, mixed_precision):
        monkeypatch.setattr(module, 'computes_in_bfloat16', lambda device: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.long
def test_exact_resume_and_plain_checkpoints(bfloat16, tmp_path, monkeypatch):
    shapes = make_shapes(tmp_path / 'shapes', train=4, val=1, size=(64, 96))
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    options = IN_PROCESS | FEW_REGIONS | {'train_dataloader.batch_size': 2}
    options |= {'custom_hooks': [dict(type='EMAHook', momentum=0.1)]}
    seen = []
    forward = torch.nn.Conv2d.forward

    def record(self, x):
        y = forward(self, x)
        seen.append((y.dtype, x.is_contiguous(memory_format=torch.channels_last)))
        return y

    monkeypatch.setattr(torch.nn.Conv2d, 'forward', record)
    model = train(CASCADE, work_dir=tmp_path / 'a', amp=True, seed=0, options=options | EPOCHS)
    assert (torch.bfloat16, True) in seen and all(p.dtype == torch.float32 for p in model.parameters())
    first = options | EPOCHS | {'train_cfg.max_epochs': 1}
    train(CASCADE, work_dir=tmp_path / 'b', amp=True, seed=0, options=first)
    train(CASCADE, work_dir=tmp_path / 'b', amp=True, resume=True, options=options | EPOCHS)
    whole, resumed = (weights(tmp_path / run / 'epoch_2.pth') for run in 'ab')
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(value.is_contiguous() and value.isfinite().all() for value in whole.values())
    content = torch.load(tmp_path / 'a' / 'epoch_2.pth', weights_only=False)
    moments = [m for state in content['optimizer']['state'].values() for m in state.values()]
    assert len(moments) > 100 and all(value.is_contiguous() for value in moments)
    assert all(value.is_contiguous() for value in content['ema_state_dict'].values())
    train(CASCADE, work_dir=tmp_path / 'c', seed=0, options=first)
    plain, mixed = weights(tmp_path / 'c' / 'epoch_1.pth'), weights(tmp_path / 'b' / 'epoch_1.pth')
    assert not all(torch.equal(plain[name], mixed[name]) for name in plain)


def test_a_cpu_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(mixed_precision, 'computes_in_bfloat16', lambda device: False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='--amp: this CPU does not compute in bfloat16'):
        train(UPERNET, work_dir=tmp_path, amp=True)


@pytest.mark.parametrize('kind', ['AmpOptimWrapper', 'BFloat16OptimWrapper'])
@pytest.mark.parametrize('supported', [True, False])
def test_a_config_of_another_machine(kind, supported, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(adaptations, 'computes_in_bfloat16', lambda device: supported)
    wrapper = dict(type=kind, optimizer=dict(type='AdamW', lr=1e-3))
    if kind == 'AmpOptimWrapper':
        wrapper |= dict(dtype='float16', loss_scale='dynamic')
    config = Config(dict(model=dict(type='x'), optim_wrapper=wrapper))
    messages = [line for line in fit_to_machine(config, 'none') if line.startswith('precision')]
    assert config.optim_wrapper.type == ('BFloat16OptimWrapper' if supported else 'OptimWrapper')
    assert set(config.optim_wrapper) == {'type', 'optimizer'}
    assert len(messages) == (not supported or kind == 'AmpOptimWrapper')
