from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from fastervit_backbone.layers import CarrierTokenizer, propagate_carriers
from fastervit_backbone.layers.carrier import pooling_windows

from ..conftest import lively


@pytest.mark.parametrize(('w', 'c'), [(7, 2), (7, 1), (7, 3), (8, 2), (12, 2)])
def test_two_windows_a_side_pool_as_published(w, c):
    """For two windows: kernel 2w - (2c-1)*floor(w/c), stride floor(w/c)."""
    starts, kernel = pooling_windows(2, w, c)
    stride = w // c
    assert kernel == 2 * w - (2 * c - 1) * stride
    assert starts.tolist() == [j * stride for j in range(2 * c)]


@pytest.mark.parametrize('n', [1, 3, 8, 37])
@pytest.mark.parametrize(('w', 'c'), [(7, 2), (7, 1), (7, 3), (7, 4), (7, 7), (12, 5)])
def test_pooling_covers_the_whole_side_evenly(n, w, c):
    starts, kernel = pooling_windows(n, w, c)
    starts = starts.tolist()
    assert len(starts) == n * c
    assert starts[0] == 0 and (starts[-1] + kernel == n * w or (n * c == 1 and kernel == w))
    steps = [b - a for a, b in pairwise(starts)]
    assert not steps or max(steps) - min(steps) <= 1


@torch.no_grad()
@pytest.mark.parametrize(('nH', 'nW'), [(2, 2), (1, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize('c', [1, 2, 3])
def test_carriers_are_means_of_the_convolved_map(nH, nW, c):
    tokenizer = lively(CarrierTokenizer(4, 7, c))
    x = torch.randn(2, nH * 7, nW * 7, 4)
    carriers = tokenizer(x)
    assert carriers.shape == (2, nH * c * nW * c, 4)
    y = F.conv2d(x.permute(0, 3, 1, 2), tokenizer.conv.weight, tokenizer.conv.bias, padding=1, groups=4)
    rows, kernel = pooling_windows(nH, 7, c)
    cols, _ = pooling_windows(nW, 7, c)
    for a, row in enumerate(rows):
        for b, col in enumerate(cols):
            expected = y[:, :, row : row + kernel, col : col + kernel].mean((2, 3))
            torch.testing.assert_close(carriers[:, a * nW * c + b], expected)


@pytest.mark.parametrize(('c', 'w'), [(2, 7), (1, 7), (3, 7), (2, 4)])
def test_propagation_is_nearest_upsampling(c, w):
    carriers = torch.randn(3, c * c, 5)
    up = propagate_carriers(carriers, c, w).reshape(3, w, w, 5)
    for i in range(w):
        for j in range(w):
            assert torch.equal(up[:, i, j], carriers[:, i * c // w * c + j * c // w])
