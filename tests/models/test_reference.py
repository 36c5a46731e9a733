"""Compare all reference cases with the published implementation, loaded from files in its format."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastervit_backbone import FasterViT
from fastervit_backbone.checkpoint import load_published
from tests.helpers import (
    ALL_CONV,
    PAPER_CASES,
    QUICK_CASES,
    SMALL_CASES,
    TOLERANCE,
    ReferenceCase,
    relative_error,
)


def assert_maps(maps, stored):
    for i, ours in enumerate(maps, 1):
        assert tuple(ours.shape) == tuple(stored[f'stage{i}_shape'])
        assert relative_error(ours.mean((2, 3)).numpy(), stored[f'stage{i}_mean']) < TOLERANCE
        step, sample = int(stored[f'stage{i}_step']), stored[f'stage{i}_sample']
        ours = ours[:, :8, ::step, ::step][:, :, : sample.shape[2], : sample.shape[3]]
        assert relative_error(np.ascontiguousarray(ours.numpy()), sample) < TOLERANCE


@pytest.mark.short('small', 'faster_vit_0')
@pytest.mark.parametrize(
    'name',
    SMALL_CASES + [n if n in QUICK_CASES else pytest.param(n, marks=pytest.mark.slow) for n in PAPER_CASES],
)
def test_published_numbers(name, tmp_path):
    """As built and in deploy mode."""
    case = ReferenceCase(name)
    content = case.published_file()
    path = tmp_path / 'published.pth.tar'
    torch.save(content, path)
    net = FasterViT(case.arch, out_norm=None).eval()
    report = load_published(net, path)
    path.unlink()

    learnable = {
        k
        for k in content['state_dict']
        if not k.endswith(('relative_bias', 'relative_coords_table', 'relative_position_index'))
    }
    twins = sum('to_global_feature' in k for k in learnable)  # aliases of one tensor
    dropped = {k for k in learnable if k.startswith(('norm.', 'head.'))}
    assert set(report.dropped) == dropped
    assert len(report.loaded) == len(learnable) - twins - len(dropped)
    assert set(report.loaded) == set(net.state_dict())

    with torch.no_grad():
        maps = net(case.images())
    assert_maps(maps, case.numbers)

    weights = content['state_dict']
    statistics = [weights[f'norm.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')]
    pooled = F.batch_norm(maps[-1], *statistics, eps=1e-5).mean((2, 3))
    logits = F.linear(pooled, weights['head.weight'], weights['head.bias'])
    assert relative_error(logits.numpy(), case.numbers['logits']) < TOLERANCE

    images = case.images()
    with torch.no_grad():
        assert_maps(net.deploy(tuple(images.shape[2:]), choices=ALL_CONV)(images), case.numbers)


@pytest.mark.parametrize('name', PAPER_CASES)
def test_parameter_counts_of_the_paper(name):
    case = ReferenceCase(name)
    with torch.device('meta'):
        net = FasterViT(case.arch, out_norm=None)
    channels = net.out_channels[-1]
    head = 2 * channels + 1000 * channels + 1000  # final BatchNorm and classifier
    assert sum(p.numel() for p in net.parameters()) + head == case.meta['parameters']
