"""Print docs/train.md's table: which parameters decay in which recipe, and how fast the backbone learns."""

from pathlib import Path

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastervit_backbone.engine.config.adaptations import fit_to_machine
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.runner.build import drop_pretrained
from fastervit_backbone.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent.parent
NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
KINDS = ('weights', 'norms', 'biases', 'scales', 'queries')
#: Head, or start of a config's name -> whose rule it follows, where not Swin's for detection.
RULES = {
    'cascade': "Swin's and ConvNeXt's for detection; lsj: with layer-wise decay",
    'upernet': "Swin's for ADE20K",
    'mask2former': "the paper's and mmdet's for Swin",
    'mask2former-semantic': "the paper's and mmseg's for Swin",
    'mask2former-panoptic': "the paper's and mmdet's for Swin",
    'dino': "DINO's, as in mmdet",
    'rtmdet-ins': "mmdet's",
    'fpn': "PoolFormer's rates, norms and biases as in Swin's",
    'classifier': "the paper's, with LAMB",
}
PATTERNS = {name: recipe.configs for name, recipe in RECIPES.items()} | {
    'mask2former-panoptic': 'mask2former-panoptic_fastervit{}_50e.py'
}


def kind_of(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    """Return which of KINDS a parameter of a module is."""
    if isinstance(module, NORMS):
        return 'norms'
    if isinstance(module, nn.Embedding):
        return 'queries'
    if 'bias' in name and parameter.ndim == 1:
        return 'biases'
    return 'weights' if parameter.ndim > 1 else 'scales'


def rule_of(path: Path) -> tuple[dict[str, str], float]:
    """Return (kind -> 'yes', 'no' or 'some', the backbone's share of the rate) of a config's optimizer."""
    config = load_config(path)
    init_default_scope(config.default_scope)
    fit_to_machine(config, 'none')
    drop_pretrained(config.model)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    decays = {id(p): group['weight_decay'] > 0 for group in groups for p in group['params']}
    rates = {id(p): group['lr'] for group in groups for p in group['params']}
    found: dict[str, set[bool]] = {kind: set() for kind in KINDS}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in decays:
                found[kind_of(module, name, parameter)].add(decays[id(parameter)])
    words = {(): '-', (True,): 'yes', (False,): 'no', (False, True): 'some'}
    largest = max((rates[id(p)] for p in model.backbone.parameters() if id(p) in rates), default=0.0)
    rule = {kind: words[tuple(sorted(values))] for kind, values in found.items()}
    return rule, largest / max(rates.values())


def largest_configs() -> dict[str, Path]:
    """Return head -> its config with the largest backbone."""
    folder = ROOT / 'configs'
    return {
        head: next(path for arch in '43210' if (path := folder / pattern.format(arch)).is_file())
        for head, pattern in PATTERNS.items()
    }


def table() -> str:
    """Return the table in Markdown."""
    rows = [
        f'| recipe | {" | ".join(KINDS)} | rate of the backbone | rule |',
        f'|{"---|" * (len(KINDS) + 3)}',
    ]
    for head, path in largest_configs().items():
        rule, share = rule_of(path)
        source = RULES.get(head, "Swin's for detection")
        rows.append(f'| {head} | {" | ".join(rule.values())} | {share:g} | {source} |')
    return '\n'.join(rows)


if __name__ == '__main__':
    print(table())
