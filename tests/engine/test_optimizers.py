import pytest
import torch
from torch import nn

from fastervit_backbone import ArchSpec, FasterViT
from fastervit_backbone.models.layer_decay import layer_index, parameter_groups

SPEC = ArchSpec(dim=8, stem_dim=8, depths=(1, 2, 3, 1), num_heads=(1, 1, 2, 4), layer_scale=1e-5)


class Detector(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.backbone, self.head, self.norm = FasterViT(SPEC, **options), nn.Linear(64, 5), nn.BatchNorm2d(5)


@pytest.mark.parametrize(
    ('name', 'layer'),
    [
        ('stem.conv1.weight', 0),
        ('stages.0.blocks.0.conv1.weight', 1),
        ('stages.0.downsample.conv.weight', 1),
        ('stages.1.blocks.1.norm2.bias', 3),
        ('stages.2.tokenizer.conv.weight', 4),
        ('stages.2.blocks.0.bias.fc1.weight', 4),
        ('stages.2.blocks.2.carrier.layer.scale1', 6),
        ('stages.2.downsample.norm.weight', 6),
        ('stages.3.blocks.0.layer.mlp.fc1.weight', 7),
        ('out_norms.0.weight', 8),
    ],
)
def test_layers_are_counted_from_the_image(name, layer):
    assert name in dict(FasterViT(SPEC).named_parameters())
    assert layer_index(name, SPEC.depths) == layer


def test_an_unknown_name_is_reported():
    with pytest.raises(ValueError, match=r'neck\.conv'):
        layer_index('neck.conv', SPEC.depths)


def test_groups_hold_every_parameter_once_with_the_right_rate_and_decay():
    model = Detector()
    groups = parameter_groups(model, lr=0.1, weight_decay=0.05, decay_rate=0.5)
    names = {id(p): n for n, p in model.named_parameters()}
    seen = {}
    for group in groups:
        for p in group['params']:
            assert id(p) not in seen
            seen[id(p)] = group
    assert set(seen) == set(names)
    for key, name in names.items():
        group, parameter = seen[key], model.get_parameter(name)
        layer = (
            8
            if not name.startswith('backbone.')
            else layer_index(name.removeprefix('backbone.'), SPEC.depths)
        )
        assert group['lr'] == pytest.approx(0.1 * 0.5 ** (8 - layer)), name
        assert group['weight_decay'] == (0.0 if parameter.ndim == 1 else 0.05), name
    no_decay = {names[id(p)] for g in groups if g['weight_decay'] == 0 for p in g['params']}
    assert {
        'backbone.stages.2.blocks.0.layer.scale1',
        'backbone.out_norms.3.weight',
        'head.bias',
        'norm.weight',
    } <= no_decay
    torch.optim.AdamW(groups)


def test_rate_1_is_the_same_everywhere_and_frozen_layers_are_left_out():
    groups = parameter_groups(Detector(frozen_stages=2), lr=0.1, weight_decay=0.05)
    assert {g['lr'] for g in groups} == {0.1}
    assert not {'layer_0', 'layer_1', 'layer_2', 'layer_3'} & {g['name'] for g in groups}
    with pytest.raises(ValueError, match=r'1\.5'):
        parameter_groups(Detector(), 0.1, 0.05, 1.5)


def test_swins_position_tables_do_not_decay():
    swin = nn.Module()
    swin.relative_position_bias_table = nn.Parameter(torch.zeros(169, 3))
    swin.weight = nn.Parameter(torch.zeros(3, 3))
    groups = {g['name']: g for g in parameter_groups(swin, 1e-3, 0.05)}
    assert (
        groups['head_no_decay']['params'] == [swin.relative_position_bias_table]
        and groups['head']['weight_decay'] == 0.05
    )
