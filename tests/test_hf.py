"""The backbone of transformers has the maps of ours, from every kind of weights."""

import pytest
import torch

pytest.importorskip('transformers')

from transformers import AutoBackbone, AutoConfig

from fastervit_backbone import FasterViT
from fastervit_backbone.checkpoint import load_published
from fastervit_backbone.hf import FasterViTBackbone, FasterViTConfig
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
