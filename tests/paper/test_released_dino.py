"""The detector that the authors released becomes mmdet's DINO; the file is not here, its names are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('mmdet')

from mmengine.registry import MODELS, init_default_scope

from fastervit_backbone import FasterViT
from fastervit_backbone.checkpoints.published import _only_backbone, check_fit, load_published
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.models.layers.position import PositionMlp
from fastervit_backbone.utils.errors import CheckpointError
from fastervit_paper.released_dino import convert_released_dino, fold_positions
from tests.helpers import ROOT, ReferenceCase, randomize
from tests.processes import verb

CONFIG = ROOT / 'configs' / 'dino_fastervit4_21k_224_12e.py'
C = 256


def linear(name, inputs, outputs):
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def norm(name):
    return {f'{name}.weight': (C,), f'{name}.bias': (C,)}


def deformable(name):
    """4 levels, 8 heads, 4 points."""
    shapes = linear(f'{name}.sampling_offsets', C, 256) | linear(f'{name}.attention_weights', C, 128)
    return shapes | linear(f'{name}.value_proj', C, C) | linear(f'{name}.output_proj', C, C)


def mlp(name, inputs, outputs, layers):
    widths = [inputs, *[C] * (layers - 1), outputs]
    parts = [linear(f'{name}.layers.{i}', widths[i], widths[i + 1]) for i in range(layers)]
    return {key: shape for part in parts for key, shape in part.items()}


def shapes_of_the_file():
    """Names and shapes outside the backbone, from the layers that the DINO paper's code has."""
    shapes = {'transformer.level_embed': (4, C), 'transformer.tgt_embed.weight': (900, C)}
    for i, channels in enumerate((392, 784, 1568)):
        shapes |= {f'input_proj.{i}.0.weight': (C, channels, 1, 1), f'input_proj.{i}.0.bias': (C,)}
    shapes |= {'input_proj.3.0.weight': (C, 1568, 3, 3), 'input_proj.3.0.bias': (C,)}
    for i in range(4):
        shapes |= norm(f'input_proj.{i}.1')
    for i in range(6):
        layer = f'transformer.encoder.layers.{i}'
        shapes |= deformable(f'{layer}.self_attn') | norm(f'{layer}.norm1') | norm(f'{layer}.norm2')
        shapes |= linear(f'{layer}.linear1', C, 2048) | linear(f'{layer}.linear2', 2048, C)
        layer = f'transformer.decoder.layers.{i}'
        shapes |= deformable(f'{layer}.cross_attn') | linear(f'{layer}.self_attn.out_proj', C, C)
        shapes |= {
            f'{layer}.self_attn.in_proj_weight': (3 * C, C),
            f'{layer}.self_attn.in_proj_bias': (3 * C,),
        }
        shapes |= norm(f'{layer}.norm1') | norm(f'{layer}.norm2') | norm(f'{layer}.norm3')
        shapes |= linear(f'{layer}.linear1', C, 2048) | linear(f'{layer}.linear2', 2048, C)
    shapes |= norm('transformer.decoder.norm') | mlp('transformer.decoder.ref_point_head', 2 * C, C, 2)
    shapes |= linear('transformer.enc_output', C, C) | norm('transformer.enc_output_norm')
    shapes |= linear('transformer.enc_out_class_embed', C, 91)
    return shapes | mlp('transformer.enc_out_bbox_embed', C, 4, 3) | {'label_enc.weight': (92, C)}


@pytest.fixture(scope='module')
def released():
    """A synthetic file: random values under all names."""
    generator = torch.Generator().manual_seed(0)
    file = {k: torch.randn(shape, generator=generator) for k, shape in shapes_of_the_file().items()}
    shared = {
        k: torch.randn(shape, generator=generator)
        for k, shape in (linear('class_embed', C, 91) | mlp('bbox_embed', C, 4, 3)).items()
    }
    for key, value in shared.items():  # one head, which all six layers and the decoder hold
        head, rest = key.split('.', 1)
        for i in range(6):
            file[f'{head}.{i}.{rest}'] = file[f'transformer.decoder.{head}.{i}.{rest}'] = value
    case = ReferenceCase('faster_vit_4_21k_224')
    backbone = case.published_file()['state_dict']
    file |= {f'backbone.0.{k}': v for k, v in backbone.items() if not k.startswith(('norm.', 'head.'))}
    for i, channels in ((1, 392), (2, 784), (3, 1568)):
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            file[f'backbone.0.norm{i}.{name}'] = torch.rand(channels, generator=generator)
        file[f'backbone.0.norm{i}.num_batches_tracked'] = torch.tensor(1)
    return file


@pytest.mark.long
def test_every_tensor_is_placed_and_the_config_is_filled(released):
    tensors, report = convert_released_dino(released, 'released.pth')
    config = load_config(CONFIG)
    init_default_scope(config.default_scope)
    config.model.backbone.pop('init_cfg')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    check_fit(model, tensors, 'released.pth')
    outside = {k for k in released if not k.startswith('backbone.0.')}
    placed = sum(k.startswith('bbox_head') for k in tensors)
    assert placed == 7 * (2 + 6) and len(outside) == len(tensors) - len(_only_backbone(tensors)) + 6 * 8
    inside = [k for k in released if k.startswith('backbone.0.')]
    accounted = len(_only_backbone(tensors)) + len(report.rebuilt) + len(report.dropped)
    assert accounted == len(inside) and all('relative' in k for k in report.rebuilt) and not report.dropped
    assert 'CC BY-NC-SA 4.0' in str(report)
    from mmdet.datasets import CocoDataset as Coco

    names = Coco.METAINFO['classes']
    weight, row = tensors['bbox_head.cls_branches.0.weight'], released['class_embed.0.weight']
    for name, category in (('person', 1), ('stop sign', 13), ('toothbrush', 90)):  # ids of COCO's json
        assert torch.equal(weight[names.index(name)], row[category])
        label = tensors['dn_query_generator.label_embedding.weight'][names.index(name)]
        assert torch.equal(label, released['label_enc.weight'][category])


@pytest.mark.parametrize('side', [14, 7])
def test_folded_positions_are_the_detectors(side):
    """The detector's coordinates through its layer, and ours through the folded one."""
    torch.manual_seed(0)
    stage = {14: 2, 7: 3}[side]
    layer, ours = randomize(PositionMlp(8)), PositionMlp(8)
    key = f'stages.{stage}.blocks.0.position'
    folded = fold_positions({f'{key}.{k}': v for k, v in layer.state_dict().items()})
    ours.load_state_dict({k.removeprefix(f'{key}.'): v for k, v in folded.items()})
    tokens = side * side
    index = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij'), -1).float()

    def values(module, coordinates):
        return F.linear(F.relu(F.linear(coordinates, *module.fc1.parameters())), module.fc2.weight)

    expected = values(layer, (index - tokens // 2) / (tokens // 2))
    actual = values(ours, (index - side // 2) / (side // 2))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def sample(values, shapes, locations, weights):
    """Deformable attention (arXiv 2010.04159, equation 3), one head and point after the other."""
    batch, _, heads, channels = values.shape
    queries = locations.shape[1]
    out = values.new_zeros(batch, queries, heads, channels)
    start = 0
    for level, (h, w) in enumerate(shapes):
        maps = values[:, start : start + h * w].permute(0, 2, 3, 1).reshape(batch * heads, channels, h, w)
        start += h * w
        for point in range(locations.shape[4]):
            grid = (
                2 * locations[:, :, :, level, point].transpose(1, 2).reshape(batch * heads, queries, 1, 2) - 1
            )
            found = F.grid_sample(maps, grid, align_corners=False)
            found = found.reshape(batch, heads, channels, queries).permute(0, 3, 1, 2)
            out += found * weights[:, :, :, level, point, None]
    return out.flatten(2)


def test_a_decoder_layer_equals_plain_torch(released):
    """Self-attention, norm2, deformable attention, norm1, feed-forward, norm3, as the file's names say."""
    config = load_config(CONFIG)
    init_default_scope(config.default_scope)
    tensors, _ = convert_released_dino(released, 'released.pth')
    from mmdet.models.layers import DinoTransformerDecoder

    decoder = DinoTransformerDecoder(**config.model.decoder).eval()
    inside = {k.removeprefix('decoder.'): v * 0.05 for k, v in tensors.items() if k.startswith('decoder.')}
    decoder.load_state_dict(inside)
    generator = torch.Generator().manual_seed(1)
    shapes = torch.tensor([[6, 8], [3, 4], [2, 2], [1, 1]])
    total = int(shapes.prod(1).sum())
    query, position = (torch.randn(2, 5, C, generator=generator) for _ in range(2))
    memory, reference = (
        torch.randn(2, total, C, generator=generator),
        torch.rand(2, 5, 4, 4, generator=generator),
    )
    with torch.no_grad():
        actual = decoder.layers[2](
            query,
            query_pos=position,
            value=memory,
            key_padding_mask=None,
            self_attn_mask=None,
            spatial_shapes=shapes,
            level_start_index=torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]]),
            valid_ratios=torch.ones(2, 4, 2),
            reference_points=reference,
        )
    start = 'transformer.decoder.layers.2.'
    p = {k.removeprefix(start): v * 0.05 for k, v in released.items() if k.startswith(start)}

    def apply(name, x):
        return F.linear(x, p[f'{name}.weight'], p[f'{name}.bias'])

    def normalize(name, x):
        return F.layer_norm(x, (C,), p[f'{name}.weight'], p[f'{name}.bias'])

    attention = nn.MultiheadAttention(C, 8, batch_first=True)
    attention.load_state_dict(
        {k.removeprefix('self_attn.'): v for k, v in p.items() if k.startswith('self_attn.')}
    )
    with torch.no_grad():
        mixed = attention(query + position, query + position, query)[0]
        x = normalize('norm2', query + mixed)
        offsets = apply('cross_attn.sampling_offsets', x + position).view(2, 5, 8, 4, 4, 2)
        weights = apply('cross_attn.attention_weights', x + position).view(2, 5, 8, 16).softmax(-1)
        centers, sizes = reference[:, :, None, :, None, :2], reference[:, :, None, :, None, 2:]
        locations = centers + offsets / 4 * sizes * 0.5
        values = apply('cross_attn.value_proj', memory).view(2, total, 8, 32)
        found = sample(values, shapes.tolist(), locations, weights.view(2, 5, 8, 4, 4))
        x = normalize('norm1', x + apply('cross_attn.output_proj', found))
        x = normalize('norm3', x + apply('linear2', F.relu(apply('linear1', x))))
    torch.testing.assert_close(actual, x, rtol=1e-4, atol=1e-5)


def test_a_box_is_encoded_as_the_detector_does(released):
    """64 frequencies a coordinate, sine and cosine in turn, y first (arXiv 2201.12329, equation 7)."""
    from mmdet.models.layers.transformer.utils import coordinate_to_encoding

    boxes = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(2))
    weight = released['transformer.decoder.ref_point_head.layers.0.weight']
    features = []
    for coordinate in (1, 0, 2, 3):
        for j in range(64):
            angle = 2 * np.pi * boxes[..., coordinate].double() / 10000 ** (j / 64)
            features += [angle.sin(), angle.cos()]
    expected = torch.stack(features, -1) @ weight.double().T
    ours = convert_released_dino(released, 'x.pth')[0]['decoder.ref_point_head.layers.0.weight']
    actual = coordinate_to_encoding(boxes, num_feats=C) @ ours.T
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_the_command(released, tmp_path):
    """The file as DINO's training writes it; the result is read by stock torch and holds the backbone."""
    torch.save(dict(model={f'module.{k}': v for k, v in released.items()}, epoch=11), tmp_path / 'dino.pth')
    command = ['convert-checkpoint', tmp_path / 'dino.pth']
    done = verb(*command, tmp_path / 'ours.pth', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'not for commercial use' in done.stdout and '91 classes -> 80' in done.stdout
    content = torch.load(tmp_path / 'ours.pth', weights_only=True)
    net = FasterViT('4_21k_224', out_norm='bn', out_indices=(1, 2, 3))
    report = load_published(net, content)
    assert not report.fresh
    done = verb(*command, tmp_path / 'half.pth', '--half', cwd=tmp_path)
    assert done.returncode == 2 and '--half is for a backbone alone' in done.stderr


def test_what_does_not_belong_is_named(released):
    with pytest.raises(CheckpointError, match=r'transformer\.extra: unexpected in the released DINO'):
        convert_released_dino(released | {'transformer.extra': torch.zeros(1)}, 'x.pth')
    with pytest.raises(CheckpointError, match='has 5 rows, expected 92'):
        convert_released_dino(released | {'label_enc.weight': torch.zeros(5, C)}, 'x.pth')
    with pytest.raises(CheckpointError, match='and its alias are one tensor'):
        convert_released_dino(released | {'class_embed.3.bias': torch.zeros(91)}, 'x.pth')
