"""Variants beyond the paper's rows: other stages, stems, carriers; each differs only where it should."""

import pytest
import torch
import torch.nn.functional as F

from fastervit_backbone import ARCHS, ArchSpec, FasterViT
from fastervit_backbone.checkpoints.infer_arch import infer_arch
from fastervit_backbone.models.layers.carrier import pool_carriers
from fastervit_backbone.models.layers.conv import PatchMerging, PatchStem
from fastervit_backbone.models.stages import AttentionStage, ConvStage
from tests.helpers import randomize

TINY = dict(dim=8, stem_dim=8, depths=(1, 1, 4, 1), num_heads=(1, 2, 2, 2), window_sizes=(3, 3, 3, 3))


@torch.no_grad()
def test_attention_in_the_first_stages():
    """Table S.7."""
    net = randomize(FasterViT(ArchSpec(**TINY, conv=(False,) * 4))).eval()
    assert all(isinstance(stage, AttentionStage) for stage in net.stages)
    assert isinstance(FasterViT(ArchSpec(**TINY)).stages[0], ConvStage)
    maps = net(torch.randn(1, 3, 97, 130))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 25, 33), (16, 13, 17), (32, 7, 9), (64, 4, 5)]
    assert infer_arch('file', net.state_dict()).spec.conv == (False,) * 4


@torch.no_grad()
def test_carriers_pass_the_plain_blocks():
    """hat_every=2: blocks 0 and 2 are plain window attention, 1 and 3 hierarchical."""
    net = randomize(FasterViT(ArchSpec(**TINY, hat_every=2))).eval()
    blocks = net.stages[2].blocks
    assert [block.carrier is not None for block in blocks] == [False, True, False, True]
    stage, x = net.stages[2], torch.randn(1, 32, 6, 9)
    before = stage(x)
    for i in (0, 2):  # without their branches the plain blocks change nothing
        for linear in (blocks[i].layer.attn.proj, blocks[i].layer.mlp.fc2):
            linear.weight.zero_()
            linear.bias.zero_()
        blocks[i].position.fc2.weight.zero_()
    hierarchical = FasterViT(ArchSpec(**TINY | dict(depths=(1, 1, 2, 1)))).stages[2].eval()
    hierarchical.tokenizer.load_state_dict(stage.tokenizer.state_dict())
    for mine, theirs in zip(hierarchical.blocks, (blocks[1], blocks[3]), strict=True):
        mine.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(stage(x), hierarchical(x))
    assert not torch.allclose(before, stage(x))


@torch.no_grad()
def test_more_carriers_than_tokens():
    """Table S.4: 9 carriers along a window of 7; constants stay, and each image has 9 per window."""
    y = torch.full((1, 14, 7, 2), 3.0)
    carriers = pool_carriers(y, 7, 9)
    assert carriers.shape == (1, 18 * 9, 2) and torch.equal(carriers, torch.full_like(carriers, 3.0))
    ramp = torch.arange(7.0).expand(1, 7, 7)[..., None]
    rows = pool_carriers(ramp, 7, 9).reshape(9, 9)
    expected = [(torch.arange(7.0)[i * 7 // 9 : -(-(i + 1) * 7 // 9)]).mean() for i in range(9)]
    torch.testing.assert_close(rows[0], torch.stack(expected))
    net = FasterViT('nano', carrier_size=9).eval()
    assert net(torch.randn(1, 3, 200, 130))[2].shape == (1, 128, 13, 9)


@torch.no_grad()
def test_patch_stem_and_merging_are_swins():
    timm = pytest.importorskip('timm')
    swin = timm.create_model('swin_tiny_patch4_window7_224', strict_img_size=False).eval()
    stem, merging = PatchStem(3, 96), PatchMerging(96)
    stem.proj.load_state_dict(swin.patch_embed.proj.state_dict())
    stem.norm.load_state_dict(swin.patch_embed.norm.state_dict())
    theirs = swin.layers[1].downsample
    merging.load_state_dict(randomize(theirs).state_dict())
    images = torch.randn(2, 3, 93, 130)
    x = stem(images)
    padded = F.pad(images, (0, 2, 0, 3))  # timm's stem takes multiples of 4 only
    torch.testing.assert_close(x.permute(0, 2, 3, 1), swin.patch_embed(padded))
    expected = theirs(x.permute(0, 2, 3, 1))
    torch.testing.assert_close(merging(x).permute(0, 2, 3, 1), expected)


@pytest.mark.parametrize(('arch', 'stages'), [('swin_t_hat', 4), ('swin_t_hat_stage3', 1)])
def test_swin_t_with_carriers(arch, stages):
    with torch.device('meta'):
        net = FasterViT(arch)
        assert net(torch.empty(1, 3, 225, 190))[3].shape == (1, 768, 8, 6)
    assert sum(stage.tokenizer is not None for stage in net.stages) == stages
    with_carriers = [[block.carrier is not None for block in stage.blocks] for stage in net.stages]
    expected = [[False, True], [False, True], [False, True] * 3, [False, True]]
    assert with_carriers == (expected if stages == 4 else [[False] * 2, [False] * 2, [True] * 6, [False] * 2])


@pytest.mark.short('size0')
@torch.no_grad()
@pytest.mark.parametrize('size', [(224, 224), (448, 672)])
def test_without_carriers_and_positions_it_is_swin(size):
    """Against timm's Swin-T without shifts, where no window is padded: Swin pads after its LayerNorm."""
    timm = pytest.importorskip('timm')
    swin = timm.create_model('swin_tiny_patch4_window7_224', strict_img_size=False)
    swin = randomize(swin).eval()
    net = FasterViT(ArchSpec(**vars(ARCHS['swin_t_hat']) | dict(hat=(False,) * 4)), out_norm=None).eval()
    for name in ('proj', 'norm'):
        getattr(net.stem, name).load_state_dict(getattr(swin.patch_embed, name).state_dict())
    for i, (stage, layer) in enumerate(zip(net.stages, swin.layers, strict=True)):
        if i:
            net.stages[i - 1].downsample.load_state_dict(layer.downsample.state_dict())
        for block, their_block in zip(stage.blocks, layer.blocks, strict=True):
            their_block.shift_size, their_block.attn_mask = (0, 0), None
            state = their_block.state_dict()
            table = state.pop('attn.relative_position_bias_table')
            block.layer.load_state_dict(
                {k: v for k, v in state.items() if 'relative_position_index' not in k and k != 'attn_mask'}
            )
            block.position.fc2.weight.zero_()
            bias = table.reshape(13, 13, -1).permute(2, 0, 1)
            block.bias = SwinBias(bias)
    images = torch.randn(1, 3, *size)
    x = swin.patch_embed(images)
    for ours, layer in zip(net(images), swin.layers, strict=True):
        x = layer(x)
        theirs = x.permute(0, 3, 1, 2)
        torch.testing.assert_close(ours, theirs, atol=2e-4 * float(theirs.abs().max()), rtol=0)


class SwinBias(torch.nn.Module):
    """Swin's table of offsets (h, 13, 13), instead of an MLP."""

    def __init__(self, table):
        super().__init__()
        i = torch.arange(7)
        offsets = i[:, None] - i[None] + 6  # query minus key
        bias = table[:, offsets[:, None, :, None], offsets[None, :, None, :]]
        self.value = bias.reshape(1, len(table), 49, 49)

    def forward(self, grid, num_prefix_tokens, dtype):
        assert grid == (7, 7) and num_prefix_tokens == 0
        return F.pad(self.value, (0, 0)).to(dtype)
