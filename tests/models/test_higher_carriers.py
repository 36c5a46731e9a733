"""Carriers of higher order: nothing changes below the limit, and above it the formula holds."""

import copy

import pytest
import torch

from fastervit_backbone import ArchSpec, FasterViT
from fastervit_backbone.models.layers.carrier import higher_carriers
from fastervit_backbone.models.layers.hat import AttentionBlock
from fastervit_backbone.models.layers.position import RelativeBias
from tests.helpers import randomize

TINY = dict(dim=8, stem_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_sizes=(3, 3, 3, 3))


def pair(carrier_window, **changes):
    plain = randomize(FasterViT(ArchSpec(**TINY | changes))).eval()
    windowed = FasterViT(ArchSpec(**TINY | changes), carrier_window=carrier_window).eval()
    windowed.load_state_dict(plain.state_dict())  # no other parameters
    return plain, windowed


@torch.no_grad()
@pytest.mark.parametrize('size', [(96, 96), (97, 140), (32, 192)])
def test_bit_equal_within_the_limit(size):
    plain, windowed = pair(8)  # 192 pixels: 12 tokens, 4 windows, 8 carriers along a side
    images = torch.randn(2, 3, *size)
    assert all(torch.equal(a, b) for a, b in zip(plain(images), windowed(images), strict=True))


@torch.no_grad()
def test_beyond_the_limit_the_stage_differs():
    plain, windowed = pair(4)
    images = torch.randn(1, 3, 160, 96)
    first, second = plain(images), windowed(images)
    assert torch.equal(first[1], second[1]) and not torch.equal(first[2], second[2])


@torch.no_grad()
def test_grids_shrink_until_they_fit():
    def grids(grid, n, c):
        shapes = [
            orders.shape[1] for orders in higher_carriers(torch.zeros(1, grid[0] * grid[1], 1), grid, n, c)
        ]
        return shapes

    assert grids((4, 4), 4, 2) == [] and grids((5, 4), 4, 2) == [8]  # 2x1 windows of 2x2 carriers
    assert grids((20, 36), 4, 2) == [10 * 18, 6 * 10, 4 * 6, 2 * 4]
    constant = higher_carriers(torch.full((2, 64, 3), 5.0), (8, 8), 4, 1)
    assert torch.equal(constant[0], torch.full((2, 4, 3), 5.0))


@torch.no_grad()
def test_the_layer_is_window_attention_with_carriers():
    """Against plain loops over windows: 6x4 carriers in windows of 4, one carrier of order 2 each."""
    layer = randomize(AttentionBlock(8, 2, window=5, carrier_size=1, carrier_window=4)).carrier.eval()
    carriers = torch.randn(2, 24, 8)
    higher = higher_carriers(carriers, (6, 4), 4, 1)
    result, (above,) = layer(carriers, (6, 4), torch.float32, None, higher)

    def attend(x, bias):
        y = x + layer.layer.attn(layer.layer.norm1(x), bias)
        return y + layer.layer.mlp(layer.layer.norm2(y))

    padded = torch.zeros(2, 8, 4, 8)
    padded[:, :6] = carriers.reshape(2, 6, 4, 8)
    second = attend(
        torch.stack([padded[:, 4 * i : 4 * i + 4].mean((1, 2)) for i in (0, 1)], 1)
        + layer.position((2, 1), 0, torch.float32),
        layer.bias((2, 1), 0, torch.float32),
    )
    for i in (0, 1):
        tokens = torch.cat((second[:, i : i + 1], padded[:, 4 * i : 4 * i + 4].reshape(2, 16, 8)), 1)
        tokens = tokens + layer.position((4, 4), 1, torch.float32)
        expected = attend(tokens, layer.bias((4, 4), 1, torch.float32))
        torch.testing.assert_close(above[:, i], expected[:, 0])
        rows = min(4, 6 - 4 * i)
        got = result.reshape(2, 6, 4, 8)[:, 4 * i : 4 * i + rows]
        torch.testing.assert_close(got, expected[:, 1:].reshape(2, 4, 4, 8)[:, :rows])


@torch.no_grad()
def test_a_corner_reaches_the_opposite_one():
    _, net = pair(4)
    for module in net.modules():
        if isinstance(module, RelativeBias):
            module.fc2.weight.fill_(-1)  # biases near 0: others, of up to 16, would hide the carriers
    images = torch.randn(1, 3, 480, 320)  # 20x14 carriers: three orders
    changed = images.clone()
    changed[..., :32, :32] += 1
    moved = (net(images)[2] - net(changed)[2]).abs().amax(1)[0]
    assert moved[-1, -1] > 1e-6


@torch.no_grad()
@pytest.mark.parametrize('size', [None, (160, 224)])
def test_deploy_and_cache(size):
    _, net = pair(4, layer_scale=1e-5, propagation=True)
    images = torch.randn(2, 3, 160, 224)
    expected = net(images)
    again = net(images)  # from the cache
    deployed = net.deploy(size)(images)
    for a, b, c in zip(expected, again, deployed, strict=True):
        assert torch.equal(a, b)
        assert (a - c).abs().max() / a.abs().max() < 1e-5
    assert copy.deepcopy(net).spec.carrier_window == 4


def test_gradients_with_checkpointing():
    _, net = pair(4)
    recomputing = FasterViT(net.spec, with_cp=True)
    recomputing.load_state_dict(net.state_dict())
    images = torch.randn(1, 3, 160, 128)
    for model in (net, recomputing):
        sum(m.square().sum() for m in model.train()(images)).backward()
    for (name, a), b in zip(net.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
        assert a.grad.abs().sum() > 0, name


def test_too_small_a_window():
    with pytest.raises(ValueError, match='carrier_window=3 must be at least twice carrier_size=2'):
        FasterViT('nano', carrier_window=3)
