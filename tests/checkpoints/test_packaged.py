"""Weights that are part of the package."""

import pytest
import torch

from fastervit_backbone import FasterViT
from fastervit_backbone.checkpoint import convert_checkpoint, load_published
from fastervit_backbone.checkpoints.io import PACKAGED, read_checkpoint, resolve_checkpoint
from fastervit_backbone.utils.errors import CheckpointError


def test_nano_loads_by_name():
    path = resolve_checkpoint('fastervit://nano')
    assert path == PACKAGED['fastervit://nano'] and path.stat().st_size < 10e6
    tensors = read_checkpoint(path)['state_dict'].values()
    assert {v.dtype for v in tensors if v.ndim > 1} == {torch.float16}
    net = FasterViT('nano', init_cfg=dict(type='Pretrained', checkpoint='fastervit://nano')).eval()
    fresh = net.stem.conv1.weight.clone()
    net.init_weights()
    assert net.stem.conv1.weight.dtype == torch.float32 and not torch.equal(net.stem.conv1.weight, fresh)
    with torch.no_grad():
        assert all(m.isfinite().all() and m.std() > 0.01 for m in net(torch.randn(1, 3, 97, 130)))
    classifier = FasterViT('nano', out_indices=(3,), out_norm='bn', window_sizes=(7, 7, 4, 2))
    report = load_published(classifier, 'fastervit://nano')  # as imagenet200_nano.py has it
    assert (report.arch, report.note, report.fresh, report.dropped) == ('nano', '', (), ())
    note = load_published(FasterViT('nano', out_indices=(3,), out_norm='bn'), 'fastervit://nano').note
    assert note == (
        'window of stage 3: 4 in the file, 7 in the model, window of stage 4: 2 in the file, 7 in the model'
    )
    with pytest.raises(CheckpointError, match='no weights fastervit://0: this package has fastervit://nano'):
        load_published(FasterViT('0'), 'fastervit://0')


def test_a_half_precision_file(tmp_path):
    net = FasterViT('nano')
    torch.save(net.state_dict(), tmp_path / 'nano.pth')
    convert_checkpoint(tmp_path / 'nano.pth', tmp_path / 'half.safetensors', half=True)
    loaded = FasterViT('nano')
    load_published(loaded, tmp_path / 'half.safetensors')
    for (name, a), b in zip(net.state_dict().items(), loaded.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)
        assert a.dtype == b.dtype
