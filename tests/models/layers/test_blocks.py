import pytest
import torch
import torch.nn.functional as F

from fastervit_backbone.models.layers import attention, position
from fastervit_backbone.models.layers.attention import Attention, TransformerLayer
from fastervit_backbone.models.layers.conv import ChannelLayerNorm, ConvBlock, ConvStem, Downsample
from fastervit_backbone.models.layers.drop import DropPath
from fastervit_backbone.models.layers.hat import AttentionBlock
from fastervit_backbone.models.layers.position import GridBias
from tests.helpers import randomize


@torch.no_grad()
def test_attention_is_softmax_of_scaled_products_plus_bias():
    attention = randomize(Attention(12, 3))
    x, bias = torch.randn(2, 5, 12), torch.randn(1, 3, 5, 5)
    qkv = F.linear(x, attention.qkv.weight, attention.qkv.bias)
    heads = []
    for h in range(3):
        q, k, v = (qkv[..., part * 12 + h * 4 : part * 12 + (h + 1) * 4] for part in range(3))
        heads.append((q @ k.transpose(1, 2) / 4**0.5 + bias[0, h]).softmax(-1) @ v)
    expected = F.linear(torch.cat(heads, -1), attention.proj.weight, attention.proj.bias)
    torch.testing.assert_close(attention(x, bias), expected)


@torch.no_grad()
def test_layer_scales_are_on_the_branches():
    layer = randomize(TransformerLayer(8, 2, layer_scale=1e-5))
    x, bias = torch.randn(2, 5, 8), torch.zeros(1, 2, 5, 5)
    y = x + layer.scale1 * layer.attn(layer.norm1(x), bias)
    torch.testing.assert_close(layer(x, bias), y + layer.scale2 * layer.mlp(layer.norm2(y)))
    layer.scale1.zero_()
    layer.scale2.zero_()
    assert torch.equal(layer(x, bias), x)


@torch.no_grad()
def test_a_block_without_carriers_keeps_windows_apart():
    block = randomize(AttentionBlock(8, 2, window=3))
    x = torch.randn(2 * 4, 9, 8)
    whole, _ = block(x, (2, 2), torch.float32)
    single, _ = block(x[5:6], (1, 1), torch.float32)
    torch.testing.assert_close(whole[5:6], single)


@torch.no_grad()
def test_carriers_connect_windows_but_not_images():
    block = randomize(AttentionBlock(8, 2, window=3, carrier_size=1))
    joined = torch.randn(2 * 4, 1 + 9, 8)
    before, _ = block(joined, (2, 2), torch.float32)
    changed = joined.clone()
    changed[3, 0] = torch.randn(8)  # the carrier of the first image's last window
    after, _ = block(changed, (2, 2), torch.float32)
    moved = (before - after)[:, 1:].abs().amax((1, 2))
    assert (moved[:4] > 1e-5).all() and moved[4:].max() == 0  # float32 noise is about 1e-7


@torch.no_grad()
def test_propagation_adds_the_scaled_carriers():
    torch.manual_seed(0)
    plain = randomize(AttentionBlock(8, 2, window=4, carrier_size=2, layer_scale=1e-5))
    propagating = AttentionBlock(8, 2, window=4, carrier_size=2, layer_scale=1e-5, propagate=True)
    propagating.load_state_dict(plain.state_dict())
    joined = torch.randn(2, 4 + 16, 8)
    (y, _), (z, _) = (block(joined, (1, 1), torch.float32) for block in (plain, propagating))
    ct = y[:, :4]
    up = ct.reshape(2, 2, 2, 8).repeat_interleave(2, 1).repeat_interleave(2, 2).reshape(2, 16, 8)
    assert torch.equal(z[:, :4], ct)
    torch.testing.assert_close(z[:, 4:], y[:, 4:] + plain.carrier.layer.scale1 * up)


@torch.no_grad()
@pytest.mark.parametrize('size', [(8, 12), (7, 9), (1, 1)])
def test_channel_layer_norm_and_downsample(size):
    x = torch.randn(2, 6, *size)
    norm = randomize(ChannelLayerNorm(6, eps=1e-6))
    mean, var = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    expected = (x - mean) / (var + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)
    assert Downsample(6)(x).shape == (2, 12, -(-size[0] // 2), -(-size[1] // 2))


@torch.no_grad()
def test_conv_block_and_stem_equal_a_manual_computation():
    block, stem = randomize(ConvBlock(4)).eval(), randomize(ConvStem(3, 5, 4)).eval()
    x = torch.randn(2, 3, 9, 13)

    def norm(y, bn, eps):
        shape = (1, -1, 1, 1)
        y = (y - bn.running_mean.reshape(shape)) / (bn.running_var.reshape(shape) + eps).sqrt()
        return y * bn.weight.reshape(shape) + bn.bias.reshape(shape)

    y = F.relu(norm(F.conv2d(x, stem.conv1.weight, stride=2, padding=1), stem.norm1, 1e-4))
    y = F.relu(norm(F.conv2d(y, stem.conv2.weight, stride=2, padding=1), stem.norm2, 1e-4))
    torch.testing.assert_close(stem(x), y)
    z = F.gelu(norm(F.conv2d(y, block.conv1.weight, block.conv1.bias, padding=1), block.norm1, 1e-5))
    z = norm(F.conv2d(z, block.conv2.weight, block.conv2.bias, padding=1), block.norm2, 1e-5)
    torch.testing.assert_close(block(y), y + z)


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(4000 * 2, 3, 2)
    y = drop(x, groups=2)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert torch.equal(y[0::2], y[1::2])  # the two windows of an image are dropped together
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert drop.eval()(x) is x
    with pytest.raises(ValueError, match=r'1\.0'):
        DropPath(1.0)


@torch.no_grad()
@pytest.mark.parametrize('large', [False, True])
def test_padding_heads_to_a_multiple_of_eight_changes_nothing(large, monkeypatch):
    """As on CUDA, where arch 4 with 49 channels per head would otherwise run the slow kernel."""
    layer = randomize(Attention(2 * 49, 2))
    x = torch.randn(3, 6, 2 * 49)
    bias = GridBias(torch.randn(2, 3, 5), (2, 3)) if large else torch.randn(1, 2, 6, 6)
    monkeypatch.setattr(position, 'CHUNK_ELEMENTS', 2 * 3 * 6)  # one row at a time
    expected, seen = layer(x, bias), []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        'scaled_dot_product_attention',
        lambda q, k, v, **kwargs: seen.append(q.shape[-1]) or kernel(q, k, v, **kwargs),
    )
    monkeypatch.setattr(attention, '_needs_aligned_heads', lambda x: True)
    padded = layer(x, bias)
    assert set(seen) == {56} and len(seen) == (2 if large else 1)
    torch.testing.assert_close(padded, expected, rtol=1e-5, atol=1e-6)
