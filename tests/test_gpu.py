"""Tests that need a CUDA device."""

import pytest
import torch

from fastervit_backbone import FasterViT
from tests.helpers import ROOT, randomize

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]


@torch.no_grad()
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_cuda_matches_the_cpu(memory_format):
    net, images = randomize(FasterViT('nano')).eval(), torch.randn(2, 3, 97, 131)
    expected = net(images)
    net.cuda()
    for _ in range(2):  # computed positions, then cached ones
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
    """tools/train.py --amp: no step may be skipped for a non-finite loss or gradient."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    from fastervit_backbone.datasets.shapes import make_shapes
    from fastervit_backbone.train import train

    monkeypatch.setenv('SHAPES_ROOT', str(make_shapes(tmp_path / 'shapes', train=100, val=2)))
    options = {'train_cfg.max_iters': 50}
    if family in ('cascade', 'dino'):
        options = {'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 4}
    config = ROOT / 'configs' / 'demo' / f'{family}_shapes.py'
    train(config, work_dir=tmp_path / 'work', amp=True, max_non_finite=1, options=options)


@pytest.mark.parametrize(
    'name',
    [
        'cascade_fastervit4_3x',
        'mask-rcnn_fastervit2_1x',
        'faster-rcnn_fastervit0_voc0712',
        'retinanet_fastervit0_1x',
        'dino_fastervit0_12e',
    ],
)
def test_the_papers_configs_in_bfloat16(name):
    """Train and predict with an FPN without norm, whose maps are bfloat16, and mmcv's CUDA operators."""
    pytest.importorskip('mmdet')
    from mmdet.testing import demo_mm_inputs

    from fastervit_backbone.ops.float32 import run_in_float32
    from tests.mm_helpers import build, load, train_step, with_nano

    run_in_float32()
    config = with_nano(load(ROOT / 'configs' / f'{name}.py'))
    model, masks = build(config).cuda(), 'mask_head' in config.model.get('roi_head', {})
    for objects in ([3, 1], [0, 0]):
        shapes = [[3, 96, 128], [3, 120, 80]]
        batch = demo_mm_inputs(2, shapes, num_items=objects, num_classes=3, with_mask=masks)
        with torch.autocast('cuda', torch.bfloat16):
            gradients = train_step(model, batch)
        assert all(g is None or g.isfinite().all() for g in gradients)
        with torch.no_grad(), torch.autocast('cuda', torch.bfloat16):
            results = model.eval()(**model.data_preprocessor(batch, False), mode='predict')
        assert all(r.pred_instances.bboxes.dtype == torch.float32 for r in results)


@torch.no_grad()
def test_heads_of_49_channels_use_the_memory_efficient_kernel():
    """Unlike the math kernel, it does not write all attention scores to memory."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from fastervit_backbone.models.layers.attention import Attention

    attention = Attention(16 * 49, 16).cuda().bfloat16()
    x = torch.randn(64, 576, 16 * 49, device='cuda', dtype=torch.bfloat16)
    bias = torch.randn(1, 16, 576, 576, device='cuda').bfloat16()
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):  # raises for shapes that it does not support
        out = attention(x, bias)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(out, attention(x, bias), rtol=5e-2, atol=5e-2)


@torch.no_grad()
def test_a_forward_can_be_captured():
    net, images = randomize(FasterViT('nano')).eval().cuda(), torch.randn(1, 3, 96, 128, device='cuda')
    expected = net(images)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        maps = net(images)
    graph.replay()
    for a, b in zip(maps, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
