"""Published Swin weights fill what a Swin with carriers shares with it."""

import pytest
import torch

from fastervit_backbone import FasterViT
from fastervit_backbone.checkpoint import load_published
from fastervit_backbone.utils.errors import CheckpointError
from tests.helpers import randomize

timm = pytest.importorskip('timm')


def published(layout):
    """timm's state dict, or with the names of the first publication: downsampling ends a stage there."""
    state = randomize(timm.create_model('swin_tiny_patch4_window7_224')).state_dict()
    if layout == 'timm':
        return state
    renamed = {}
    for key, value in state.items():
        if '.downsample.' in key:
            stage = int(key.split('.')[1])
            key = key.replace(f'layers.{stage}.', f'layers.{stage - 1}.')
        renamed[key.replace('head.fc.', 'head.')] = value
    return dict(model=renamed)


@pytest.mark.parametrize('layout', ['timm', 'first'])
def test_shared_tensors_are_loaded(layout):
    source = published(layout)
    net = FasterViT('swin_t_hat')
    before = {k: v.clone() for k, v in net.state_dict().items()}
    report = load_published(net, source)
    state, theirs = net.state_dict(), published('timm')
    assert torch.equal(state['stem.proj.weight'], theirs['patch_embed.proj.weight'])
    assert torch.equal(
        state['stages.2.blocks.5.layer.attn.qkv.weight'], theirs['layers.2.blocks.5.attn.qkv.weight']
    )
    assert torch.equal(
        state['stages.0.downsample.reduction.weight'], theirs['layers.1.downsample.reduction.weight']
    )
    kept = set(state) - set(report.loaded)
    assert set(report.fresh) == kept and all(torch.equal(state[k], before[k]) for k in kept)
    parts = ('position', 'bias.fc', 'carrier.', 'tokenizer', 'out_norms')
    assert all(any(part in k for part in parts) for k in kept)
    assert 'head.fc.weight' in report.dropped or 'head.weight' in report.dropped


def test_another_size_is_refused():
    with pytest.raises(CheckpointError, match='of another shape'):
        load_published(
            FasterViT('swin_t_hat'), timm.create_model('swin_base_patch4_window7_224').state_dict()
        )
    with pytest.raises(CheckpointError, match='unexpected'):
        load_published(FasterViT('0'), published('timm'))
