"""Which parameters decay and how fast they learn, in every config with our backbone."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from decay_table import largest_configs, rule_of, table

from fastervit_backbone.engine import LayerDecayOptimWrapperConstructor
from tests.helpers import ROOT
from tests.mm_helpers import load

CONFIGS = ROOT / 'configs'
LEAVES = sorted(p for p in CONFIGS.rglob('*.py') if not {'_base_', 'baselines'} & set(p.parts))
OURS = [p for p in LEAVES if load(p).model.backbone.type == 'FasterViT']
RULES = {}


def recipe_of(path: Path) -> str | None:
    """Return the recipe that a config of the paper follows; demos and fine-tuning have their own."""
    name = path.stem.partition('_fastervit')[0].replace('dino-5scale', 'dino')
    name = name.replace('imagenet', 'classifier')
    is_other = path.parent.name == 'demo' or path.stem.endswith(('_ft_60e', '_ft_30e', '_head'))
    return None if is_other or name not in largest_configs() else name


def test_the_table_of_the_docs():
    assert table() in (ROOT / 'docs' / 'train.md').read_text(), 'run python docs/generate/decay_table.py'


@pytest.mark.short('fastervit0', 'fastervit2', 'demo')
@pytest.mark.parametrize('path', OURS, ids=[str(p.relative_to(CONFIGS)) for p in OURS])
def test_what_decays(path):
    rule, share = rule_of(path)
    recipe = recipe_of(path)
    if recipe is not None:
        if recipe not in RULES:
            RULES[recipe] = rule_of(largest_configs()[recipe])
        known, expected_share = RULES[recipe]
        assert share == pytest.approx(expected_share)
        assert all(word in (known[kind], '-') for kind, word in rule.items()), (rule, known)
    if recipe != 'dino':
        assert rule['weights'] == 'yes'
        assert {rule['norms'], rule['biases'], rule['scales']} <= {'no', '-'}
    if 'mask2former' in path.stem and path.parent.name != 'demo':
        assert rule['queries'] == 'no' and share == pytest.approx(0.1)


def test_the_decay_of_an_optimizer_that_names_none():
    """torch's own default for its class."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4))
    for kind, decay in (('AdamW', 0.01), ('SGD', 0.0)):
        config = dict(type='OptimWrapper', optimizer=dict(type=kind, lr=0.1))
        wrapper = LayerDecayOptimWrapperConstructor(config, {})(model)
        groups = {group['name']: group['weight_decay'] for group in wrapper.optimizer.param_groups}
        assert groups == {'head': decay, 'head_no_decay': 0.0}
