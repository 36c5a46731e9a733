"""What only a CUDA device can show."""

import pytest
import torch

from fastervit_backbone import FasterViT

from .conftest import lively

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
