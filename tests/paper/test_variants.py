"""Networks with exchanged parts: peers' attention by loops, and improvements that start as the base."""

import pytest
import torch

from fastervit_backbone import ArchSpec, FasterViT
from fastervit_backbone.checkpoints.declared import declare
from fastervit_backbone.checkpoints.io import write_state_dict
from fastervit_paper import FasterViTVariant
from fastervit_paper.twins import SubsampledAttention, WindowAttention
from tests.helpers import randomize
from tests.models.test_variants import TINY


@torch.no_grad()
@pytest.mark.parametrize('attention', ['twins', 'edgevit'])
def test_attention_of_peers(attention):
    """Table 5: maps of the same shapes; a far corner is seen, through summaries or sampled tokens."""
    spec = ArchSpec(**TINY, hat=(False,) * 4)
    net = randomize(FasterViTVariant(spec, attention=attention)).eval()
    images = torch.randn(2, 3, 161, 130)
    maps = net(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 41, 33), (16, 21, 17), (32, 11, 9), (64, 6, 5)]
    changed = images.clone()
    changed[0, :, :32, :32] += 1
    moved = (maps[2] - net(changed)[2]).abs().amax(1)
    assert moved[0, -1, -1] > 0 and moved[1].max() == 0
    torch.testing.assert_close(net(images[1:])[3], maps[3][1:], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=f"attention='{attention}' has no carriers"):
        FasterViTVariant(ArchSpec(**TINY), attention=attention)


@torch.no_grad()
def test_twins_attention_by_loops():
    local, whole = WindowAttention(8, 2, 3), SubsampledAttention(8, 2, 2)
    x = torch.randn(1, 6, 4, 8)

    def attend(q, k, v):
        heads = [(q[:, i : i + 4] @ k[:, i : i + 4].T / 2).softmax(-1) @ v[:, i : i + 4] for i in (0, 4)]
        return torch.cat(heads, -1)

    window = torch.zeros(3, 3, 8)
    window[:, :1] = x[0, 3:6, 3:4]  # the last window: one column and two of padding
    q, k, v = local.qkv(window.reshape(9, 8)).split(8, -1)
    expected = local.proj(attend(q, k, v)).reshape(3, 3, 8)[:, :1]
    torch.testing.assert_close(local(x)[0, 3:6, 3:4], expected)
    weight = whole.subsample.weight.permute(2, 3, 1, 0)
    areas = [
        sum(x[0, 2 * i + a, 2 * j + b] @ weight[a, b] for a in (0, 1) for b in (0, 1))
        for i in range(3)
        for j in range(2)
    ]
    summary = whole.norm(torch.stack(areas) + whole.subsample.bias)
    k, v = whole.kv(summary).split(8, -1)
    expected = whole.proj(attend(whole.q(x.reshape(24, 8)), k, v)).reshape(1, 6, 4, 8)
    torch.testing.assert_close(whole(x), expected)


IMPROVEMENTS = {
    'kernel': dict(carrier_kernel=5),
    'dense': dict(carrier_kernel=5, carrier_conv='dense'),
    'gate': dict(carrier_gate=True),
    'stem': dict(hybrid_stem=True),
    'overlap': dict(window_overlap=2),
}


@torch.no_grad()
@pytest.mark.parametrize('name', IMPROVEMENTS)
def test_improvements_start_as_the_base(name, tmp_path):
    """With a file of the base they compute the same, but for the rounding of a larger convolution."""
    base = randomize(FasterViT(ArchSpec(**TINY))).eval()
    write_state_dict(base.state_dict(), tmp_path / 'base.safetensors', declare(base.spec, 3))
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.safetensors'))
    net = FasterViTVariant(ArchSpec(**TINY), **IMPROVEMENTS[name], init_cfg=init_cfg).eval()
    net.init_weights()
    images = torch.randn(2, 3, 97, 130)
    for a, b in zip(base(images), net(images), strict=True):
        if name in ('gate', 'stem', 'overlap'):
            assert torch.equal(a, b)
        torch.testing.assert_close(a, b, atol=1e-5 * float(a.abs().max()), rtol=0)
    assert sum(p.numel() for p in net.parameters()) > sum(p.numel() for p in base.parameters())
    for a, b in zip(net(images), net.deploy()(images), strict=True):
        assert (a - b).abs().max() / a.abs().max() < 1e-5


def test_improvements_learn():
    options = {k: v for improvement in IMPROVEMENTS.values() for k, v in improvement.items()}
    net = FasterViTVariant(ArchSpec(**TINY), **options)
    sum(m.square().sum() for m in net(torch.randn(2, 3, 96, 128))).backward()
    new = ('tokenizer.conv', 'gate', 'stem.patches')
    grads = {k: p.grad for k, p in net.named_parameters() if any(part in k for part in new)}
    assert len(grads) == 13 and all(g is not None and g.abs().sum() > 0 for g in grads.values())
    with pytest.raises(ValueError, match='carrier_kernel must be odd, got 4'):
        FasterViTVariant(ArchSpec(**TINY), carrier_kernel=4)


def test_a_config_uses_one_by_its_name():
    """The config of docs/classification.md; publishing such a network would declare the base."""
    pytest.importorskip('mmengine')
    from mmengine.registry import MODELS

    net = MODELS.build(dict(type='FasterViTVariant', arch='nano', carrier_kernel=5))
    assert net.stages[2].tokenizer.conv.kernel_size == (5, 5)
    with pytest.raises(TypeError, match='no_such_option'):
        FasterViTVariant('nano', no_such_option=1)
