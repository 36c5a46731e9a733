"""Ablations of table S.1: a removed component equals one that is zero, and nothing else changes."""

import pytest
import torch

from fastervit_backbone import ArchSpec, FasterViT
from fastervit_backbone.models.layers.carrier import propagate_carriers
from fastervit_backbone.models.layers.position import AbsolutePosition, RelativeBias
from fastervit_paper.components import ABLATIONS, StillCarriers, ablate
from tests.helpers import randomize

TINY = dict(dim=8, stem_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_sizes=(3, 3, 3, 3))
SIZE = (100, 130)


def twins(**changes):
    first = randomize(FasterViT(ArchSpec(**TINY | changes))).eval()
    second = FasterViT(first.spec).eval()
    second.load_state_dict(first.state_dict())
    return first, second


def assert_equal_maps(first, second):
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        for a, b in zip(first(images), second(images), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5 * float(a.abs().max()), rtol=1e-4)


def test_positions_are_zero():
    zeroed, ablated = twins()
    for module in zeroed.modules():
        if isinstance(module, AbsolutePosition):
            torch.nn.init.zeros_(module.fc2.weight)
    assert ablate(ablated, 'position') is ablated
    assert_equal_maps(zeroed, ablated)


def test_bias_is_zero():
    zeroed, ablated = twins()
    for module in zeroed.modules():
        if isinstance(module, RelativeBias):  # 16 * sigmoid of a large negative number
            torch.nn.init.zeros_(module.fc1.weight)
            torch.nn.init.ones_(module.fc1.bias)
            torch.nn.init.constant_(module.fc2.weight, -1.0)
    assert_equal_maps(zeroed, ablate(ablated, 'bias'))


def test_carriers_that_do_not_attend():
    zeroed, ablated = twins()
    for block in zeroed.stages[2].blocks:
        for linear in (block.carrier.layer.attn.proj, block.carrier.layer.mlp.fc2):
            torch.nn.init.zeros_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        torch.nn.init.zeros_(block.carrier.position.fc2.weight)
    ablate(ablated, 'carrier_attention')
    assert all(isinstance(block.carrier, StillCarriers) for block in ablated.stages[2].blocks)
    assert_equal_maps(zeroed, ablated)


def test_carriers_are_plain_averages():
    identity, ablated = twins()
    conv = identity.stages[2].tokenizer.conv
    torch.nn.init.zeros_(conv.weight)
    torch.nn.init.zeros_(conv.bias)
    conv.weight.data[:, :, 1, 1] = 1
    assert_equal_maps(identity, ablate(ablated, 'carrier_conv'))


def test_without_carriers_it_is_window_attention():
    net, ablated = twins()
    plain = FasterViT(ArchSpec(**TINY, hat=(False,) * 4)).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k in plain.state_dict()})
    assert_equal_maps(plain, ablate(ablated, 'hat'))
    assert set(ablated.state_dict()) == set(plain.state_dict())


@torch.no_grad()
def test_carriers_pooled_before_every_block():
    net, ablated = twins()
    stage = ablate(ablated, 'propagation').stages[2]
    x = torch.randn(1, 32, 6, 6)
    result, tokens = stage(x), None
    tokens = x
    for block in net.stages[2].blocks:  # one stage of one block each, then the carriers are added
        single = FasterViT(ArchSpec(**TINY | dict(depths=(1, 1, 1, 1)))).stages[2].eval()
        single.tokenizer.load_state_dict(net.stages[2].tokenizer.state_dict())
        single.blocks[0].load_state_dict(block.state_dict())
        recorded = []
        single.blocks[0].register_forward_hook(lambda *call, to=recorded: to.append(call[2][0]))
        tokens = single(tokens)
        up = propagate_carriers(recorded[0][:, :4], 2, 3)  # (4 windows, 9 tokens, C)
        for i in range(4):
            row, col = 3 * (i // 2), 3 * (i % 2)
            tokens[0, :, row : row + 3, col : col + 3] += up[i].T.reshape(32, 3, 3)
    torch.testing.assert_close(result, tokens)


@pytest.mark.parametrize('what', ABLATIONS)
@pytest.mark.parametrize('propagation', [False, True])
def test_every_ablation_trains_and_deploys(what, propagation):
    net, original = twins(layer_scale=0.1, propagation=propagation)
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        before, after = original(images), ablate(net, what)(images)
        assert torch.equal(before[1], after[1]) and not torch.allclose(before[2], after[2])
        for a, b in zip(after, net.deploy()(images), strict=True):
            assert (a - b).abs().max() / a.abs().max() < 1e-5
    sum(m.square().sum() for m in net.train()(images)).backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None]
    assert not [name for name in missing if not name.endswith('carrier.scale')]


def test_what_cannot_be_removed():
    with pytest.raises(ValueError, match="no component 'attention': choose one of hat, carrier_attention"):
        ablate(FasterViT('nano'), 'attention')
    with pytest.raises(ValueError, match='hat: this variant has no carriers'):
        ablate(FasterViT(ArchSpec(**TINY, hat=(False,) * 4)), 'hat')


def test_propagation_of_swin_with_carriers():
    """Its blocks carry through every second one; the others pass the carriers on."""
    net = ablate(randomize(FasterViT('swin_t_hat', out_norm=None)), 'propagation').eval()
    with torch.no_grad():
        assert all(torch.isfinite(m).all() for m in net(torch.randn(1, 3, 64, 96)))
