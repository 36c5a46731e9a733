"""The models as timm's: names, published weights with their classifier, features, compiling and exporting."""

import pytest
import torch
from torch.nn import functional

pytest.importorskip('timm')

import timm

from fastervit_backbone import FasterViT
from fastervit_backbone.timm_cfgs import default_cfgs
from fastervit_backbone.timm_models import FasterViTClassifier
from fastervit_backbone.utils.errors import CheckpointError
from tests.helpers import PAPER_CASES, QUICK_CASES, TOLERANCE, ReferenceCase, randomize, relative_error

NAMES = [
    *(f'fastervit_{arch}' for arch in ('nano', *range(7))),
    *(f'fastervit_4_21k_{size}' for size in (224, 384, 512, 768)),
]


def test_every_name_is_registered():
    assert sorted(NAMES) == sorted(default_cfgs)
    assert set(NAMES) <= set(timm.list_models('fastervit*'))
    tags = timm.list_pretrained('fastervit*')
    assert 'fastervit_0.nv_in1k' in tags and 'fastervit_4_21k_384.nv_in21k_ft_in1k' in tags
    with torch.device('meta'):
        for name in NAMES:
            assert timm.create_model(name).num_classes == 1000


@pytest.mark.parametrize(
    ('name', 'size', 'crop', 'mode'),
    [
        ('fastervit_0', 224, 0.875, 'center'),
        ('fastervit_3', 224, 1.0, 'center'),
        ('fastervit_4_21k_224', 224, 0.95, 'squash'),
        ('fastervit_4_21k_768', 768, 0.93, 'squash'),
    ],
)
def test_published_preprocessing(name, size, crop, mode):
    with torch.device('meta'):
        data = timm.data.resolve_model_data_config(timm.create_model(name))
    assert data['input_size'] == (3, size, size) and data['interpolation'] == 'bicubic'
    assert (data['crop_pct'], data['crop_mode']) == (crop, mode)
    assert data['mean'] == (0.485, 0.456, 0.406)


def published(name, tmp_path):
    case, path = ReferenceCase(name), tmp_path / 'published.pth.tar'
    torch.save(case.published_file(), path)
    return case, path


def load(name, path, **options):
    overlay = dict(file=str(path), custom_load=True)
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    # the backbones of all are tested in models/test_reference.py
    'name',
    [n if n == QUICK_CASES[0] else pytest.param(n, marks=pytest.mark.slow) for n in PAPER_CASES],
)
def test_published_logits(name, tmp_path):
    case, path = published(name, tmp_path)
    model = load('fastervit_' + case.arch, path)
    path.unlink()
    assert relative_error(model(case.images()).numpy(), case.numbers['logits']) < TOLERANCE


@torch.no_grad()
def test_other_classes_and_channels(tmp_path):
    case, path = published('faster_vit_0_224', tmp_path)
    whole = load('fastervit_0', path)
    torch.manual_seed(0)
    other = load('fastervit_0', path, num_classes=5, in_chans=1)
    assert other(torch.randn(1, 1, 64, 96)).shape == (1, 5)
    # a grey image weighs as much as three equal channels
    grey = torch.randn(1, 1, 64, 96)
    expected = whole.forward_features(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(other.forward_features(grey), expected, rtol=1e-4, atol=1e-4)
    features = load('fastervit_0', path, features_only=True, out_indices=(1, 3))
    images = case.images()
    for ours, index in zip(features(images), (2, 4), strict=True):
        stored = case.numbers[f'stage{index}_mean']
        assert relative_error(ours.mean((2, 3)).numpy(), stored) < TOLERANCE
    with pytest.raises(CheckpointError, match='does not fit'):
        load('fastervit_1', path)


@torch.no_grad()
def test_own_weights_are_read_again(tmp_path):
    model = randomize(timm.create_model('fastervit_nano', num_classes=7)).eval()
    torch.save(model.state_dict(), tmp_path / 'own.pth')
    again = load('fastervit_nano', tmp_path / 'own.pth', num_classes=7)
    images = torch.randn(2, 3, 97, 131)
    assert torch.equal(model(images), again(images))


@torch.no_grad()
def test_logits_by_an_independent_formula():
    model = randomize(timm.create_model('fastervit_nano', num_classes=7)).eval()
    backbone = FasterViT('nano', out_norm=None).eval()
    own = backbone.state_dict()
    backbone.load_state_dict({k: v for k, v in model.state_dict().items() if k in own})
    images = torch.randn(2, 3, 97, 131)
    norm, fc = model.norm, model.head.fc
    x = backbone(images)[-1]
    x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
    x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    expected = functional.linear(x.mean((2, 3)), fc.weight, fc.bias)
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
    last, maps = model.forward_intermediates(images, indices=2, norm=True)
    assert torch.equal(last, maps[-1])
    assert torch.equal(maps[0], backbone(images)[2])
    assert [m.shape[1] for m in model.forward_intermediates(images, [-3], intermediates_only=True)] == [64]


@pytest.mark.parametrize('indices', [0, 5, [4], [-5], []])
def test_stages_that_do_not_exist(indices):
    model = timm.create_model('fastervit_nano')
    with pytest.raises(ValueError, match='the model has 4 stages'):
        model.forward_intermediates(torch.zeros(1, 3, 64, 64), indices)


def test_wrong_arguments():
    with pytest.raises(TypeError, match='img_size'):
        timm.create_model('fastervit_nano', img_size=224)
    with pytest.raises(ValueError, match='drop_path_rate'):
        FasterViTClassifier('nano', drop_path_rate=1.0)
    with pytest.raises(ValueError, match='NCHW'):
        timm.create_model('fastervit_nano').forward_intermediates(
            torch.zeros(1, 3, 64, 64), output_fmt='NHWC'
        )


def test_optimizer_groups_by_depth():
    """Layer decay: the stem first, then block by block, the head last, each parameter once."""
    from timm.optim import param_groups_layer_decay

    model = timm.create_model('fastervit_nano', num_classes=3)
    groups = param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.5)
    scale = {id(p): g['lr_scale'] for g in groups for p in g['params']}
    assert len(scale) == len(list(model.parameters()))
    order = [model.stem.conv1.weight, model.stages[0].blocks[0].conv1.weight]
    order += [model.stages[2].blocks[0].layer.norm1.weight, model.stages[2].blocks[3].layer.norm1.weight]
    order += [model.stages[3].blocks[1].layer.norm1.weight, model.head.fc.weight]
    scales = [scale[id(p)] for p in order]
    assert scales == sorted(set(scales)) and scales[-1] == 1.0


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    model, images = timm.create_model('fastervit_nano', num_classes=3), torch.randn(2, 3, 64, 96)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(stage.with_cp for stage in model.stages)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.long
@torch.no_grad()
def test_bfloat16_and_devices():
    model = timm.create_model('fastervit_nano', dtype=torch.bfloat16).eval()
    assert model(torch.randn(1, 3, 64, 64).bfloat16()).dtype == torch.bfloat16
    assert timm.create_model('fastervit_4', device='meta').head.fc.weight.is_meta


@pytest.mark.long
@torch.no_grad()
def test_torch_export():
    """timm's TorchScript tests do not apply to these models; this is what replaces TorchScript."""
    model = randomize(timm.create_model('fastervit_nano', num_classes=7)).eval()
    images = torch.randn(1, 3, 96, 128)
    program = torch.export.export(model, (images,))
    torch.testing.assert_close(program.module()(images), model(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_fx_features():
    from timm.models import create_feature_extractor

    model = randomize(timm.create_model('fastervit_nano', num_classes=7)).eval()
    images = torch.randn(1, 3, 96, 128)
    extractor = create_feature_extractor(model, ['norm', 'head.fc'])
    found = extractor(images)
    assert torch.equal(found['head.fc'], model(images))
    assert torch.equal(found['norm'], model.forward_features(images))
