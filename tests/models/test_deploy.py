"""Compare the deployed copy with the network it was made from."""

import copy

import pytest
import torch

from fastervit_backbone import FasterViT
from fastervit_backbone.benchmark.throughput import peak_memory
from fastervit_backbone.models.deploy import PointwiseConv
from fastervit_backbone.models.layers import attention, position
from fastervit_backbone.models.layers.attention import TransformerLayer
from fastervit_backbone.models.layers.position import FixedPosition, GridBias, PositionMlp, RelativeBias
from fastervit_backbone.models.stages import ConvStage
from tests.helpers import ALL_CONV, randomize


def assert_close(ours, expected, tolerance=1e-5):
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@torch.no_grad()
@pytest.mark.parametrize('size', [None, (97, 131)])
@pytest.mark.parametrize('arch', ['nano', 'scaled'])
def test_same_maps(arch, size):
    """'scaled' has layer scales and propagation, like FasterViT-3 and larger."""
    spec = dict(
        dim=16, stem_dim=8, depths=(1, 1, 2, 2), num_heads=(1, 2, 2, 4), layer_scale=0.5, propagation=True
    )
    net = randomize(FasterViT(spec if arch == 'scaled' else 'nano')).eval()
    before = copy.deepcopy(net.state_dict())
    images = torch.randn(2, 3, 97, 131)
    expected = net(images)
    deployed = net.deploy(size)
    assert_close(deployed(images), expected)
    channels_last = deployed(images.contiguous(memory_format=torch.channels_last))
    assert_close(channels_last, expected)
    assert all(m.is_contiguous() for m in deployed(images))
    assert channels_last[0].is_contiguous(memory_format=torch.channels_last)
    assert deployed.out_channels == net.out_channels and deployed.out_strides == net.out_strides
    after = net.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
    assert not any(p.requires_grad for p in deployed.parameters())
    assert all(p.requires_grad for p in net.parameters())


@torch.no_grad()
def test_nothing_is_left_to_fold(nano):
    deployed = nano.deploy((64, 96))
    kinds = {type(m) for m in deployed.modules()}
    assert torch.nn.BatchNorm2d not in kinds and FixedPosition in kinds
    assert not any(issubclass(k, PositionMlp) for k in kinds)
    blocks = [b for s in deployed.net.stages if isinstance(s, ConvStage) for b in s.blocks]
    assert all(b.conv1.weight.is_contiguous(memory_format=torch.channels_last) for b in blocks)
    # without a size the carriers' positions cannot be constants
    assert any(isinstance(m, PositionMlp) for m in nano.deploy().modules())


@torch.no_grad()
def test_another_size_and_training_are_errors(nano):
    deployed = nano.deploy((64, 96))
    with pytest.raises(
        ValueError, match=r'made for images of 64x96 .* got 96x64: deploy\(\) without a size accepts any'
    ):
        deployed(torch.randn(1, 3, 96, 64))
    with pytest.raises(RuntimeError, match='cannot be trained'):
        deployed.train()
    assert deployed.eval() is deployed
    for size in ((16, 64), 64):
        with pytest.raises(ValueError, match='size must be'):
            nano.deploy(size)
    with pytest.raises(ValueError, match="'linear' or 'conv', got"):
        nano.deploy(choices={(1, 2, 3): 'gemm'})


@torch.no_grad()
def test_without_a_size_any_size_is_accepted(nano):
    deployed = nano.deploy()
    for size in ((32, 32), (97, 131), (64, 224), (97, 131)):
        images = torch.randn(1, 3, *size)
        assert_close(deployed(images), nano(images))


@torch.no_grad()
def test_convolutions_equal_linears_and_choices_are_reproducible(nano, capsys):
    images = torch.randn(2, 3, 64, 96)
    deployed = nano.deploy(choices=ALL_CONV)
    assert set(deployed.choices.values()) == {'conv'}
    assert sum(isinstance(m, PointwiseConv) for m in deployed.modules()) == 4 * 4 + 2 * 4 + 4 * 4
    assert '0 layer shapes run as Linear' in capsys.readouterr().out
    assert_close(deployed(images), nano(images))
    again = nano.deploy(choices=deployed.choices)
    assert again.choices == deployed.choices
    assert all(torch.equal(a, b) for a, b in zip(deployed(images), again(images), strict=True))


@pytest.mark.long
@torch.no_grad()
def test_bfloat16(nano):
    images = torch.randn(2, 3, 97, 131)
    deployed = nano.deploy(dtype=torch.bfloat16)
    for name, p in deployed.named_parameters():
        is_position = '.carrier.position' in name or '.carrier.bias' in name
        assert p.dtype == (torch.float32 if is_position else torch.bfloat16)
    expected = nano(images)
    with torch.autocast('cpu', torch.bfloat16):
        rough = nano(images)
    for ours, exact, autocast in zip(deployed(images), expected, rough, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).norm() <= 1.5 * (autocast.float() - exact).norm()  # no worse than autocast


@torch.no_grad()
def test_chunked_inplace_inference_equals_the_layer(monkeypatch):
    layer = randomize(TransformerLayer(8, 2, layer_scale=1e-5)).eval()
    x, bias = torch.randn(7, 5, 8), torch.randn(1, 2, 5, 5)
    expected = layer(x, bias)
    for size in (1, 2 * 5 * 32 * 4, 2**24):  # one sequence at a time, two, all
        monkeypatch.setattr(attention, 'CHUNK_BYTES', size)
        ours = x.clone()
        assert layer.forward_inplace(ours, bias) is ours
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize('grid', [(5, 9), (9, 5), (1, 7), (13, 2)])
def test_a_bias_in_chunks_equals_the_bias(grid, monkeypatch):
    module = randomize(RelativeBias(3))
    whole = module(grid, 0, torch.float32)
    monkeypatch.setattr(position, 'CHUNK_ELEMENTS', 3 * 2 * grid[1] * grid[0] * grid[1])  # two rows
    bias = module(grid, 0, torch.float32)
    assert isinstance(bias, GridBias if grid[0] > 2 else torch.Tensor)
    if grid[0] > 2:
        ends = [0]
        for start, end, chunk in bias.chunks():
            assert start == ends[-1] and chunk.numel() <= position.CHUNK_ELEMENTS and chunk.stride(2) % 8 == 0
            assert torch.equal(chunk, whole[:, :, start:end])
            ends.append(end)
        assert ends[-1] == grid[0] * grid[1]


def test_chunks_never_need_the_full_bias(monkeypatch):
    """Peak memory is two chunks (one is flipped from the other) and the table, not the full bias."""
    grid, heads = (40, 40), 2
    monkeypatch.setattr(position, 'CHUNK_ELEMENTS', 2**16)
    bias = randomize(RelativeBias(heads))(grid, 0, torch.float32)
    peak = peak_memory(lambda: [None for _ in bias.chunks()], 'cpu')
    assert peak < 0.25 * 4 * heads * (40 * 40) ** 2


def test_backward_hooks_work(nano):
    """Gradient-weighted activation maps need them."""
    seen = []
    for module in nano.modules():
        module.register_full_backward_hook(lambda m, *_: seen.append(type(m).__name__))
    nano.train()(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert {'ConvBlock', 'BatchNorm2d', 'Mlp', 'Attention', 'TransformerLayer'} <= set(seen)


@torch.no_grad()
def test_autocast_on_a_cpu_keeps_the_dtype_of_layer_scales():
    spec = dict(dim=16, stem_dim=8, depths=(1, 1, 2, 2), num_heads=(1, 2, 2, 4), layer_scale=0.5)
    net, images = randomize(FasterViT(spec, out_norm=None)).eval(), torch.randn(1, 3, 64, 96)
    with torch.autocast('cpu', torch.bfloat16):
        without = net(images)
        with torch.enable_grad():
            expected = net(images)
    for a, b in zip(without, expected, strict=True):
        assert a.dtype == b.dtype
        assert (a.float() - b.float()).norm() < 0.03 * b.float().norm()


def test_large_grids_give_the_same_values_and_gradients(nano, monkeypatch):
    images = torch.randn(1, 3, 192, 320)  # 2 x 3 windows, 4 x 6 carriers
    with torch.no_grad():
        expected = nano(images)
    nano(images)[-1].sum().backward()
    gradients = {n: p.grad.clone() for n, p in nano.named_parameters() if p.grad is not None}
    nano.zero_grad()
    monkeypatch.setattr(position, 'CHUNK_ELEMENTS', 500)
    nano.eval()  # clears the positions
    with torch.no_grad():
        for net in (nano, nano, nano.deploy(), nano.deploy((192, 320))):  # computed, cached, constant
            assert_close(net(images), expected)
    assert any(isinstance(v, GridBias) for v, _ in nano.stages[2].cache._entries.values())
    nano(images)[-1].sum().backward()
    for name, p in nano.named_parameters():
        if name in gradients:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-4)
