"""Adapters against their formula: learned beside frozen weights, merged without a change of the maps."""

import dataclasses

import pytest
import torch

from fastervit_backbone import FasterViT
from fastervit_backbone.checkpoint import load_published
from fastervit_backbone.checkpoints.convert import convert_checkpoint
from fastervit_backbone.checkpoints.declared import declare, read_declared
from fastervit_backbone.checkpoints.io import read_checkpoint
from fastervit_backbone.models.layers.low_rank import LowRankLinear, is_adapter, merged_tensors
from fastervit_backbone.utils.errors import CheckpointError
from tests.helpers import randomize


def test_it_is_a_linear_plus_a_product():
    linear, x = torch.nn.Linear(6, 10), torch.randn(3, 4, 6)
    layer = LowRankLinear(linear, 2)
    assert torch.equal(layer(x), linear(x))  # at first
    torch.nn.init.normal_(layer.lora_B)
    expected = x @ (linear.weight + layer.lora_B @ layer.lora_A).T + linear.bias
    torch.testing.assert_close(layer(x), expected)
    merged = layer.merged()
    assert type(merged) is torch.nn.Linear
    torch.testing.assert_close(merged(x), expected)


@pytest.fixture
def adapted():
    return randomize(FasterViT('nano', frozen_stages=4, adapters=3))


def test_only_adapters_and_output_norms_learn(adapted):
    learning = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(is_adapter(name) or name.startswith('out_norms.') for name in learning)
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    sum(m.square().mean() for m in adapted.train()(torch.rand(2, 3, 64, 96))).backward()
    without = [name for name, p in adapted.named_parameters() if name in learning and not p.grad.any()]
    assert not without
    torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1).step()
    changed = {name for name, value in adapted.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == learning
    # every attention and MLP of stages 3 and 4, carriers' too
    linears = [m for s in adapted.stages[2:] for m in s.modules() if isinstance(m, LowRankLinear)]
    attentions = [name for name, _ in adapted.named_modules() if name.endswith(('.attn', '.mlp'))]
    assert len(linears) == 2 * len(attentions) == len([n for n in learning if is_adapter(n)]) / 2


@torch.no_grad()
def test_deploy_mode_files_and_plain_models_compute_the_same(adapted):
    adapted.eval()
    images = torch.rand(1, 3, 65, 97)
    maps = adapted(images)
    plain = FasterViT('nano').eval()
    report = load_published(plain, adapted.state_dict())
    assert not report.fresh
    again = FasterViT('nano', frozen_stages=4, adapters=3).eval()
    again.load_state_dict(adapted.state_dict())
    for other in (plain, adapted.deploy(choices='linear'), again):
        for a, b in zip(maps, other(images), strict=True):
            assert (a - b).abs().max() < 1e-5 * a.abs().max()


@torch.no_grad()
def test_plain_weights_are_a_start(adapted, nano):
    load_published(adapted, nano.state_dict())
    fresh = FasterViT('nano', frozen_stages=4, adapters=3).eval()
    load_published(fresh, nano.state_dict())
    images = torch.rand(1, 3, 64, 64)
    for a, b in zip(fresh(images), nano(images), strict=True):
        assert torch.equal(a, b)
    broken = {k: v for k, v in nano.state_dict().items() if k != 'stages.2.blocks.0.layer.attn.qkv.weight'}
    with pytest.raises(CheckpointError, match='1 missing'):
        load_published(fresh, broken)


def test_a_state_dict_is_merged(adapted):
    state = adapted.state_dict()
    merged = merged_tensors(state)
    assert merged.keys() == FasterViT('nano').state_dict().keys()
    name = next(n for n in state if n.endswith('qkv.lora_B')).removesuffix('lora_B')
    expected = state[f'{name}weight'] + state[f'{name}lora_B'] @ state[f'{name}lora_A']
    assert torch.equal(merged[f'{name}weight'], expected)


@torch.no_grad()
def test_other_adapters_are_merged(adapted):
    """Of another rank, or in other stages."""
    images = torch.rand(1, 3, 64, 64)
    for options in (dict(frozen_stages=4, adapters=5), dict(frozen_stages=3, adapters=3)):
        net = FasterViT('nano', **options).eval()
        load_published(net, adapted.state_dict())
        for a, b in zip(adapted.eval()(images), net(images), strict=True):
            assert (a - b).abs().max() < 1e-5 * a.abs().max()


def test_layer_scales_are_folded_into_merged_layers(nano):
    spec = dataclasses.replace(nano.spec, layer_scale=0.5)
    net = randomize(FasterViT(spec, frozen_stages=4, adapters=2)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = net(images)
    for a, b in zip(maps, net.deploy(choices='linear')(images), strict=True):
        assert (a - b).abs().max() < 1e-5 * a.abs().max()


def test_a_converted_file_keeps_its_windows(tmp_path):
    net = randomize(FasterViT('nano', window_sizes=(7, 7, 5, 5), frozen_stages=4, adapters=2))
    path = tmp_path / 'in.pth'
    meta = declare(net.spec, net.in_chans)
    torch.save(dict(state_dict=net.state_dict(), meta=meta), path)
    convert_checkpoint(path, tmp_path / 'out.safetensors')
    content = read_checkpoint(tmp_path / 'out.safetensors')
    assert read_declared(content['meta']).spec == net.spec


@pytest.mark.parametrize(
    'options',
    [
        dict(adapters=4),
        dict(adapters='8', frozen_stages=4),
        dict(adapters=4, frozen_stages=2),
        dict(adapters=-1),
    ],
)
def test_nothing_to_adapt(options):
    with pytest.raises(ValueError, match='must be a rank above 0'):
        FasterViT('nano', **options)
