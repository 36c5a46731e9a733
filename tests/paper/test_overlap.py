"""Windows that overlap, against a loop over queries and keys."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from fastervit_backbone import ArchSpec, FasterViT
from fastervit_paper import FasterViTVariant
from fastervit_paper.overlap import OverlapAttention, RelativeBiasWithBorder
from tests.helpers import randomize
from tests.models.test_variants import TINY


@torch.no_grad()
@pytest.mark.parametrize('overlap', [1, 4])
def test_keys_of_the_border(overlap):
    """With a gate of 1, the layer is attention to all tokens of the window, its border and its carriers."""
    w, nH, nW, heads, dim = 3, 2, 3, 2, 8
    attention = randomize(OverlapAttention(dim, heads, w, overlap))
    attention.gate.fill_(1.0)
    bias = randomize(RelativeBiasWithBorder(heads, overlap))
    carriers, tokens = torch.randn(nH * nW, 1, dim), torch.randn(nH * w, nW * w, dim)
    windows = tokens.reshape(nH, w, nW, w, dim).transpose(1, 2).reshape(nH * nW, w * w, dim)
    both = replace(bias((w, w), 1, torch.float32), windows_hw=(nH, nW))
    result = attention(torch.cat((carriers, windows), 1), both)

    def log(offset):
        scaled = offset * 8 / (w - 1)
        return math.copysign(math.log2(abs(scaled) + 1) / 3, scaled)

    def heads_of(x):  # (3*dim,) -> q, k, v of (heads, d)
        return x.reshape(3, heads, dim // heads)

    zero = torch.zeros(3, heads, dim // heads)
    for y, x in ((0, 0), (2, 4), (5, 8), (3, 3)):
        top, left = y // w * w, x // w * w
        window = y // w * nW + x // w
        query = heads_of(attention.qkv(tokens[y, x]))[0]
        keys, biases = [heads_of(attention.qkv(carriers[window, 0]))], [torch.zeros(heads)]
        for Y in range(top - overlap, top + w + overlap):
            for X in range(left - overlap, left + w + overlap):
                inside = 0 <= Y < nH * w and 0 <= X < nW * w
                keys.append(heads_of(attention.qkv(tokens[Y, X])) if inside else zero)
                coordinates = torch.tensor([log(y - Y), log(x - X)])
                biases.append(16 * torch.sigmoid(bias.fc2(torch.relu(bias.fc1(coordinates)))))
        k, v = torch.stack([key[1] for key in keys]), torch.stack([key[2] for key in keys])
        logits = (query * k).sum(-1) / math.sqrt(dim // heads) + torch.stack(biases)
        expected = attention.proj((logits.softmax(0)[..., None] * v).sum(0).flatten())
        mine = result[window, 1 + (y - top) * w + x - left]
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.long
def test_any_size_copies_and_dtypes():
    """A border wider than a window, one window, odd sizes, deepcopy, deploy and bfloat16."""
    net = randomize(FasterViTVariant(ArchSpec(**TINY), window_overlap=4)).eval()
    for size in ((33, 40), (97, 130), (64, 32)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            maps = net(images)
            for copied in (copy.deepcopy(net), net.deploy(), net.deploy(size)):
                for a, b in zip(maps, copied(images), strict=True):
                    assert (a - b).abs().max() < 1e-5 * a.abs().max()
            for a, b in zip(maps, net.deploy(dtype=torch.bfloat16)(images), strict=True):
                assert (a - b).norm() < 0.1 * a.norm()
    without = FasterViT(ArchSpec(**TINY)).eval()
    without.load_state_dict({k: v for k, v in net.state_dict().items() if not k.endswith('attn.gate')})
    with torch.no_grad():
        assert not torch.allclose(without(images)[2], maps[2])
    with pytest.raises(ValueError, match='window_overlap must be at least 0, got -1'):
        FasterViTVariant(ArchSpec(**TINY), window_overlap=-1)


@pytest.mark.slow
@torch.no_grad()
def test_export_and_compile():
    net = randomize(FasterViTVariant(ArchSpec(**TINY), window_overlap=1)).eval()
    images = torch.randn(1, 3, 64, 96)
    exported = torch.export.export(net, (images,)).module()
    compiled = torch.compile(net, backend='aot_eager')
    for other in (exported, compiled):
        for a, b in zip(net(images), other(images), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
