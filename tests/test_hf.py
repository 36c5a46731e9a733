"""The backbone of transformers has the maps of ours, from every kind of weights."""

from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip('transformers')

from transformers import AutoBackbone, AutoConfig

from fastervit_backbone import ARCHS, FasterViT
from fastervit_backbone.checkpoint import load_published
from fastervit_backbone.checkpoints.declared import declare
from fastervit_backbone.hf import FasterViTBackbone, FasterViTConfig
from fastervit_backbone.utils.errors import CheckpointError
from tests.helpers import SHALLOW_FPN, randomize

ALL = [0, 1, 2, 3]
X = torch.rand(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))


def equal(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@torch.no_grad()
def test_saved_and_read_again(tmp_path):
    model = FasterViTBackbone(FasterViTConfig(arch='nano', out_indices=ALL)).eval()
    randomize(model.net)
    maps = model(X).feature_maps
    assert equal(maps, model.net(X)) and [m.shape[1] for m in maps] == model.channels
    model.save_pretrained(tmp_path)
    again = FasterViTBackbone.from_pretrained(tmp_path)
    assert equal(maps, again(X).feature_maps) and not again.training
    some = FasterViTBackbone.from_pretrained(tmp_path, out_features=['stage2', 'stage4'])
    assert equal(some(X).feature_maps, [maps[1], maps[3]]) and some.channels == [64, 256]
    built = AutoBackbone.from_config(AutoConfig.from_pretrained(tmp_path))
    assert type(built) is FasterViTBackbone


@torch.no_grad()
def test_packaged_weights():
    model = FasterViTBackbone.from_pretrained('fastervit://nano', out_norm=None, out_indices=ALL)
    net = FasterViT(model.config.arch, out_norm=None).eval()
    load_published(net, 'fastervit://nano')
    assert equal(model(X).feature_maps, net(X))


@torch.no_grad()
def test_a_published_folder(tmp_path):
    pytest.importorskip('mmseg')
    from fastervit_backbone.inference.predictor import Predictor
    from fastervit_backbone.publish import publish
    from tests.mm_helpers import save_untrained

    meta = dict(classes=('background', 'circle', 'square', 'triangle'))
    (tmp_path / 'run').mkdir()
    save_untrained(SHALLOW_FPN, tmp_path / 'run' / 'best_x.pth', dataset_meta=meta)
    (tmp_path / 'run' / 'config.py').write_text(f'_base_ = {str(SHALLOW_FPN)!r}')
    folder = publish(tmp_path / 'run', tmp_path / 'published')
    model = FasterViTBackbone.from_pretrained(folder)
    net = Predictor(folder, device='cpu').model.backbone
    assert equal(model(X).feature_maps, net(X))


def test_what_it_has_not():
    model = FasterViTBackbone(FasterViTConfig(arch='nano'))
    with pytest.raises(ValueError, match='no hidden states'):
        model(X, output_hidden_states=True)
    with pytest.raises(ValueError, match='stage9'):
        FasterViTConfig(arch='nano', out_features=['stage9'])


@torch.no_grad()
def test_weights_that_a_folder_lacks(tmp_path):
    """New norms have their initial values, not those of uninitialized memory."""
    FasterViTBackbone(FasterViTConfig(arch='nano', out_norm=None, out_indices=ALL)).save_pretrained(tmp_path)
    model = FasterViTBackbone.from_pretrained(tmp_path, out_norm='ln')
    for norm in model.net.out_norms.values():
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
    weights = load_file(tmp_path / 'model.safetensors')
    arch = dict(FasterViTConfig(arch=asdict(replace(ARCHS['nano'], layer_scale=0.25))).arch)
    kept = {k: v for k, v in weights.items() if not k.startswith('net.stages.3.')}
    save_file(kept, tmp_path / 'model.safetensors', metadata={'format': 'pt'})
    model = FasterViTBackbone.from_pretrained(tmp_path, arch=arch)
    layer = model.net.stages[3].blocks[0].layer
    assert 0.015 < layer.attn.qkv.weight.std() < 0.025 and (layer.attn.qkv.bias == 0).all()
    assert (layer.scale1 == 0.25).all() and (layer.norm1.weight == 1).all()
    name = 'stages.2.blocks.0.layer.attn.qkv.weight'
    assert torch.equal(model.net.state_dict()[name], weights[f'net.{name}'])


@torch.no_grad()
@pytest.mark.parametrize('out_norm', [None, 'bn', 'ln'])
def test_some_maps_of_a_file_are_its_maps(out_norm, tmp_path):
    net = randomize(FasterViT('nano', out_norm=out_norm, window_sizes=(7, 7, 5, 5))).eval()
    meta = declare(net.spec, net.in_chans)
    torch.save(dict(state_dict=net.state_dict(), meta=meta), tmp_path / 'net.pth')
    model = FasterViTBackbone.from_pretrained(tmp_path / 'net.pth', out_indices=[2, 3])
    assert equal(model(X).feature_maps, net(X)[2:])
    assert equal(FasterViTBackbone.from_pretrained(tmp_path / 'net.pth')(X).feature_maps, net(X))
    half = FasterViTBackbone.from_pretrained(tmp_path / 'net.pth', dtype=torch.bfloat16)
    assert next(half.parameters()).dtype == torch.bfloat16


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match='out_indces'):
        FasterViTBackbone.from_pretrained('fastervit://nano', out_indces=[0])
    with pytest.raises(TypeError, match='out_indices'):
        config = FasterViTConfig(arch='nano')
        FasterViTBackbone.from_pretrained('fastervit://nano', config=config, out_indices=[0])
    with pytest.raises(CheckpointError, match='no checkpoint at'):
        FasterViTBackbone.from_pretrained(tmp_path / 'nothing')
    torch.save(dict(state_dict=FasterViT('nano').state_dict()), tmp_path / 'plain.pth')
    with pytest.raises(CheckpointError, match='give its arch'):
        FasterViTBackbone.from_pretrained(tmp_path / 'plain.pth')
