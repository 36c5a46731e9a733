import pytest
import torch

pytest.importorskip('timm')
pytest.importorskip('mmengine')

import timm

from fastervit_backbone.engine import TimmBackbone
from fastervit_backbone.utils.errors import UserError
from tests.helpers import randomize


@pytest.mark.parametrize('name', ['convnext_atto', 'poolformer_s12', 'pvt_v2_b0'])
def test_maps_are_timms_with_a_layer_norm(name):
    net = randomize(TimmBackbone(name, out_indices=(0, 2, 3))).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps, raw = net(images), net.net(images)
        for m, r, norm, c, s in zip(maps, raw, net.out_norms, net.out_channels, net.out_strides, strict=True):
            assert m.shape == (2, c, 64 // s, 96 // s) and m.is_contiguous()
            centred = r - r.mean(1, keepdim=True)
            expected = centred / (r.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
            expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
            torch.testing.assert_close(m, expected, rtol=1e-4, atol=1e-4)
    assert net.out_strides == (4, 16, 32)


def test_every_parameter_learns_and_stochastic_depth_is_passed_on():
    net = TimmBackbone('convnext_atto', drop_path_rate=0.5)
    assert any('drop' in type(m).__name__.lower() and getattr(m, 'drop_prob', 0) > 0 for m in net.modules())
    net = TimmBackbone('convnext_atto')
    sum((m * torch.randn_like(m)).mean() for m in net(torch.randn(1, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_unknown_models_and_arguments():
    with pytest.raises(UserError, match=r"timm .* has no model 'convnext_huge'"):
        TimmBackbone('convnext_huge')
    with pytest.raises(TypeError):
        TimmBackbone('convnext_atto', features_only=True)


def test_only_init_weights_downloads(monkeypatch):
    calls = []
    create = timm.create_model

    def fake(name, *, pretrained, **options):
        calls.append((name, pretrained))
        model = create(name.split('.')[0], pretrained=False, **options)
        return randomize(model, seed=3) if pretrained else model

    monkeypatch.setattr(timm, 'create_model', fake)
    net = TimmBackbone('convnext_atto', pretrained='convnext_atto.d2_in1k')
    assert calls == [('convnext_atto', False)]
    net.init_weights()
    assert calls[-1] == ('convnext_atto.d2_in1k', True)
    other = randomize(create('convnext_atto', features_only=True, out_indices=(0, 1, 2, 3)), seed=3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.net.state_dict().values(), other.state_dict().values(), strict=True)
    )

    def offline(name, **options):
        raise OSError('no network')

    monkeypatch.setattr(timm, 'create_model', offline)
    with pytest.raises(
        UserError, match=r"download of timm weights 'convnext_atto\.d2_in1k' failed .*pretrained=None"
    ):
        net.init_weights()
