"""Attention maps equal an independent softmax(q k / sqrt(d) + bias), and the model is not changed."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastervit_backbone import ARCHS, FasterViT
from fastervit_backbone.models.layers import position
from fastervit_backbone.models.layers.window import carriers_to_windows, pad_to_windows, window_partition
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.visualization.attention_maps import attention_maps, attention_weights
from tests.helpers import randomize


def forward_to_block(net, image, stage, block):
    """Run up to a block by hand; returns the block, its input (carriers and tokens by window), and nH, nW."""
    x = net.stem(image)
    for i in range(stage - 1):
        x = net.stages[i](x)
        x = net.stages[i].downsample(x)
    owner = net.stages[stage - 1]
    w = owner.window
    x = pad_to_windows(x.permute(0, 2, 3, 1), w)
    windows = (x.shape[1] // w, x.shape[2] // w)
    carriers = owner.tokenizer(x)
    c = owner.tokenizer.carrier_size
    joined = torch.cat((carriers_to_windows(carriers, c, windows), window_partition(x, w)), 1)
    for b in owner.blocks[:block]:
        joined, _ = b(joined, windows, torch.float32)
    return owner.blocks[block], joined, windows


@pytest.mark.parametrize('size', [(480, 640), (97, 131), (64, 64)])
@pytest.mark.parametrize('block', [0, 2])
def test_against_the_formula(nano, size, block):
    image = torch.randn(1, 3, *size)
    before = [m.clone() for m in nano(image)]
    query = (size[0] * 0.6, size[1] * 0.3)
    row, col = (int(v) // 16 for v in query)
    maps = attention_maps(nano, image, query, block=block)
    for a, b in zip(before, nano(image), strict=True):
        assert torch.equal(a, b)
    assert maps.deviation < 1e-5
    total = maps.tokens.sum((1, 2)) + maps.carriers.sum((1, 2))
    torch.testing.assert_close(total, torch.ones_like(total))
    torch.testing.assert_close(maps.between.sum((2, 3)), torch.ones(maps.between.shape[:2]))
    assert maps.reach().sum() == pytest.approx(1, abs=1e-4) and maps.reach().min() >= 0

    # independently: from the block's inputs, written out
    with torch.no_grad():
        module, joined, (nH, nW) = forward_to_block(nano, image, 3, block)
        c, w, h = module.carrier_size, module.window, module.layer.attn.num_heads
        carrier, num_carriers = module.carrier, c * c
        x = joined + module.position((w, w), num_carriers, joined.dtype)
        grid = torch.zeros(1, nH * c, nW * c, joined.shape[-1])
        for i in range(nH):
            for j in range(nW):
                grid[0, i * c : i * c + c, j * c : j * c + c] = x[i * nW + j, :num_carriers].reshape(c, c, -1)
        # the block's position is 0 for carriers, which have a position of their own
        tokens = grid.flatten(1, 2) + carrier.position((nH * c, nW * c), 0, grid.dtype)
        carrier_bias = carrier.bias((nH * c, nW * c), 0, torch.float32)
        among = plain(carrier.layer, tokens, carrier_bias)
        first = [((row // w) * c + i) * nW * c + (col // w) * c + j for i in range(c) for j in range(c)]
        torch.testing.assert_close(maps.between.flatten(2), among[0][:, first], atol=1e-5, rtol=1e-4)
        updated = carrier.layer(tokens, carrier_bias).reshape(1, nH * c, nW * c, -1)
        index = (row // w) * nW + col // w
        i, j = row // w * c, col // w * c
        x[index, :num_carriers] = updated[0, i : i + c, j : j + c].reshape(num_carriers, -1)
        weights = plain(module.layer, x[[index]], module.bias((w, w), num_carriers, torch.float32))
        expected = weights[0][:, num_carriers + row % w * w + col % w]
    torch.testing.assert_close(maps.carriers.flatten(1), expected[:, :num_carriers], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(maps.tokens.flatten(1), expected[:, num_carriers:], atol=1e-5, rtol=1e-4)
    assert maps.tokens.shape == (h, w, w) and maps.bias.min() > 0 and maps.bias.max() < 16
    assert maps.query == (row, col) and maps.origin == (row // w * w, col // w * w)
    assert maps.grid == (nH * w, nW * w)


def plain(layer, x, bias):
    """Compute attention weights (B, h, N, N)."""
    a = layer.attn
    q, k, _ = a.qkv(layer.norm1(x)).chunk(3, -1)
    q, k = (t.unflatten(-1, (a.num_heads, -1)).transpose(1, 2) for t in (q, k))
    scores = torch.einsum('bhqd,bhkd->bhqk', q, k) * q.shape[-1] ** -0.5 + bias
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


def test_stage_without_carriers_and_windows_in_pieces(nano, monkeypatch):
    image = torch.randn(1, 3, 224, 320)
    whole = attention_maps(nano, image, (100, 100), stage=4, block=0)
    assert whole.carriers is None and whole.between is None
    assert whole.reach().sum() == pytest.approx(1, abs=1e-4)
    monkeypatch.setattr('fastervit_backbone.models.layers.attention.CHUNK_BYTES', 1)  # a window at a time
    pieces = attention_maps(nano, image, (100, 100), stage=4, block=0)
    torch.testing.assert_close(pieces.tokens, whole.tokens, atol=1e-6, rtol=1e-5)


def test_large_grid_with_bias_in_pieces(nano, monkeypatch):
    image = torch.randn(1, 3, 224, 320)
    whole = attention_maps(nano, image, (200, 300))
    monkeypatch.setattr(position, 'CHUNK_ELEMENTS', 500)
    nano.train().eval()  # clears the caches
    pieces = attention_maps(nano, image, (200, 300))
    torch.testing.assert_close(pieces.between, whole.between, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('arch', ['0', pytest.param('4', marks=pytest.mark.slow)])
def test_published_variants(arch):
    net = randomize(FasterViT(ARCHS[arch])).eval()
    maps = attention_maps(net, torch.randn(1, 3, 224, 288), (10, 280))
    assert maps.deviation < 1e-4 and maps.tokens.shape[0] == ARCHS[arch].num_heads[2]


def test_attention_weights(nano):
    attn = nano.stages[2].blocks[0].layer.attn
    x = torch.randn(3, 53, attn.qkv.in_features)
    weights = attention_weights(attn, x, torch.zeros(1, attn.num_heads, 53, 53), 1, torch.tensor([0, 52]))
    assert weights.shape == (attn.num_heads, 2, 53)
    torch.testing.assert_close(weights.sum(-1), torch.ones(attn.num_heads, 2))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(query=(64, 0)), 'not in the image'),
        (dict(query=(-1, 0)), 'not in the image'),
        (dict(query=(0, 0), stage=2), 'stage 2 has no attention; in this backbone, 3 and 4 have'),
        (dict(query=(0, 0), block=9), 'blocks 0 to'),
    ],
)
def test_user_errors(nano, arguments, message):
    with pytest.raises(UserError, match=message):
        attention_maps(nano, torch.randn(1, 3, 64, 96), arguments.pop('query'), **arguments)


def test_pictures_of_any_size(tmp_path):
    """Run the tool on 480x640 and on an odd size."""
    pytest.importorskip('mmdet')
    from tests.helpers import CASCADE, assert_one_line_error
    from tests.mm_helpers import save_untrained
    from tests.processes import verb

    checkpoint = save_untrained(CASCADE, tmp_path / 'model.pth')
    rng = np.random.default_rng(0)
    for height, width in ((480, 640), (211, 97)):
        name = f'{height}.png'
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(tmp_path / name)
        options = [name, '--size', f'{height}x{width}', '--query', height - 1, width - 1, '--block', '1']
        options += ['--out', 'out']
        done = verb('visualize-attention', CASCADE, checkpoint, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert 'goes to its 4 carriers' in done.stdout
        for kind in ('attention', 'bias'):
            picture = Image.open(tmp_path / 'out' / f'{kind}_{height}_stage3_block1.png')
            assert np.asarray(picture.convert('RGB')).std() > 20
    done = verb('visualize-attention', CASCADE, checkpoint, '--bias', '--out', 'out', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.asarray(Image.open(tmp_path / 'out' / 'kernels_stage3_block3.png').convert('RGB')).std() > 20
    done = verb('visualize-attention', CASCADE, checkpoint, '--bias', '480.png', '--out', 'out', cwd=tmp_path)
    assert done.returncode == 2 and 'or --bias, not both' in done.stderr
    options = ['480.png', '--query', '500', '1', '--out', 'out']
    done = verb('visualize-attention', CASCADE, checkpoint, *options, cwd=tmp_path)
    assert_one_line_error(done, 'has 480 rows')
