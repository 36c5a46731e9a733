"""What only a CUDA device can show."""

import pytest
import torch

from fastervit_backbone import FasterViT

from .conftest import ROOT, lively

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]


@torch.no_grad()
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_cuda_gives_what_the_cpu_gives(memory_format):
    net, images = lively(FasterViT('nano')).eval(), torch.randn(2, 3, 97, 131)
    expected = net(images)
    net.cuda()
    for _ in range(2):  # computed, then remembered positions
        maps = net(images.cuda().to(memory_format=memory_format))
    for a, b in zip(expected, maps, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-2, atol=1e-2)  # TF32 convolutions


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_mixed_precision_trains(dtype):
    net = FasterViT('nano', drop_path_rate=0.1).cuda()
    with torch.autocast('cuda', dtype):
        loss = sum((m * torch.randn_like(m)).mean() for m in net(torch.randn(2, 3, 160, 224, device='cuda')))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('family', ['cascade', 'dino', 'upernet', 'fpn'])
def test_fifty_steps_of_every_family(family, tmp_path, monkeypatch):
    """tools/train.py --amp: no step may be left out for a loss or a gradient that is not finite."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    from fastervit_backbone.data.shapes import make_shapes
    from fastervit_backbone.engine.training import train

    monkeypatch.setenv('SHAPES_ROOT', str(make_shapes(tmp_path / 'shapes', train=100, val=2)))
    length = {'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 4} if family in ('cascade', 'dino') else {'train_cfg.max_iters': 50}
    train(ROOT / 'configs' / 'demo' / f'{family}_shapes.py', work_dir=tmp_path / 'work', amp=True, max_non_finite=1, options=length)
