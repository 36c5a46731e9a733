from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fastervit_backbone import FasterViT
from fastervit_backbone.models.layers import position_cache
from fastervit_backbone.models.layers.carrier import (
    CarrierTokenizer,
    pool_carriers,
    pooling_windows,
    propagate_carriers,
)
from tests.helpers import randomize


@pytest.mark.parametrize(('w', 'c'), [(7, 2), (7, 1), (7, 3), (8, 2), (12, 2)])
def test_two_windows_per_side_pool_as_published(w, c):
    """Two windows: kernel 2w - (2c-1)*floor(w/c), stride floor(w/c)."""
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
    tokenizer = randomize(CarrierTokenizer(4, 7, c))
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


class _Devices(TorchDispatchMode):
    """Record operations with a tensor on another device than the model's."""

    def __init__(self, device):
        self.device, self.foreign = device, []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        tensors = [t for t in pytree.tree_leaves((arguments, options, result)) if isinstance(t, torch.Tensor)]
        self.foreign += [str(operation) for t in tensors if t.device.type != self.device]
        return result


@torch.no_grad()
def test_a_forward_copies_nothing_to_the_device():
    """Copies from the CPU block a GPU and cannot be captured in a graph; the meta device reveals them."""
    with torch.device('meta'):
        net, images = FasterViT('nano').eval(), torch.zeros(1, 3, 224, 288)
    for _ in range(2):
        with _Devices('meta') as seen:
            net(images)
        assert seen.foreign == []


@torch.no_grad()
def test_nothing_is_cached_while_a_graph_is_captured(nano, monkeypatch):
    images = torch.randn(1, 3, 96, 128)
    expected = nano(images)
    nano.eval()  # clears the caches
    caches = [stage.cache for stage in nano.stages[2:]]
    monkeypatch.setattr(position_cache, '_is_capturing', lambda: True)
    for a, b in zip(nano(images), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert not any(map(len, caches))
    monkeypatch.setattr(position_cache, '_is_capturing', lambda: False)
    nano(images)
    cached = [len(c) for c in caches]
    monkeypatch.setattr(position_cache, '_is_capturing', lambda: True)
    nano(images)
    nano(torch.randn(1, 3, 160, 128))  # another size: computed, not cached
    assert min(cached) > 0 and [len(c) for c in caches] == cached


def test_pooling_in_half_precision_does_not_overflow():
    y = torch.full((1, 24, 48, 2), 500.0, dtype=torch.float16)
    assert (pool_carriers(y, 24, 2) == 500).all()
    y = torch.randn(2, 14, 21, 3)
    torch.testing.assert_close(
        pool_carriers(y.half(), 7, 2).float(), pool_carriers(y, 7, 2), atol=2e-3, rtol=2e-3
    )
