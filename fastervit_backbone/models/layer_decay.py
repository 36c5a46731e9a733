"""Layer-wise learning-rate decay (BEiT, arXiv 2106.08254, appendix; ConvNeXt, arXiv 2201.03545): pure torch.

Layers are numbered from the input: 0 is the stem, then one per block of all stages, then everything after the
backbone.
"""

import re
from typing import TypedDict

from torch import nn

from ..utils.errors import UserError
from .fastervit import FasterViT

#: Parameters of Swin that get no weight decay in its recipe.
_SWIN_POSITIONS = ('relative_position_bias_table', 'absolute_pos_embed')


def layer_index(name: str, depths: tuple[int, ...]) -> int:
    """Return the layer of a backbone parameter.

    Args:
        name: as in ``backbone.named_parameters()``.
        depths: blocks in each stage.

    Returns:
        0 for the stem, 1..sum(depths) for the blocks (a stage's tokenizer belongs to its first block, its
        downsample to its last), sum(depths) + 1 for the output norms.

    Raises:
        ValueError: not a parameter of FasterViT.
    """
    if name.startswith('stem.'):
        return 0
    if name.startswith('out_norms.'):
        return sum(depths) + 1
    match = re.match(r'stages\.(\d)\.(?:blocks\.(\d+)|tokenizer|downsample)\.', name)
    if match is None:
        raise ValueError(f'{name!r} is not the name of a FasterViT parameter')
    stage = int(match[1])
    if match[2]:
        block = int(match[2])
    else:
        block = depths[stage] - 1 if 'downsample' in match[0] else 0
    return sum(depths[:stage]) + block + 1


class ParameterGroup(TypedDict):
    """Parameter group of a torch optimizer."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float
    name: str


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    decay_rate: float = 1.0,
    backbone_lr_mult: float = 1.0,
    decay_embeddings: bool = True,
) -> list[ParameterGroup]:
    """Build groups for a torch optimizer: one per layer, split into parameters with and without weight decay.

    Vectors (biases, norms, layer scales) get no weight decay anywhere in the model, and neither do Swin's
    position tables. The learning rate of layer l of a :class:`FasterViT` with n = sum(depths) + 1 is ``lr *
    backbone_lr_mult * decay_rate**(n - l)``, that of another ``model.backbone`` ``lr * backbone_lr_mult``;
    everything else has ``lr``.

    Args:
        model: any module that contains zero or more FasterViT.
        lr: learning rate of the head, above 0.
        weight_decay: at least 0.
        decay_rate: in (0, 1]; 1 gives every layer the same learning rate.
        backbone_lr_mult: factor of the backbone's learning rate, above 0.
        decay_embeddings: whether nn.Embedding gets weight decay, such as learned queries.

    Returns:
        groups named ``layer_3``, ``layer_3_no_decay``, ..., ``backbone``, ``head``; frozen parameters are in
        none.

    Raises:
        UserError: decay_rate or backbone_lr_mult out of range.
    """
    if not backbone_lr_mult > 0.0:
        raise UserError(f'backbone_lr_mult must be above 0, got {backbone_lr_mult}')
    if not 0.0 < decay_rate <= 1.0:
        raise UserError(f'decay_rate must be in (0, 1], got {decay_rate}')
    layers = _layers_of(model)
    embeddings = set()
    if not decay_embeddings:
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        embeddings = {id(module.weight) for module in tables}
    groups: dict[str, ParameterGroup] = {}
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        name, layer_lr = 'head', lr
        if id(parameter) in layers:
            layer, last_layer = layers[id(parameter)]
            name, layer_lr = f'layer_{layer}', lr * backbone_lr_mult * decay_rate ** (last_layer - layer)
        elif path.startswith('backbone.') and backbone_lr_mult != 1.0:
            name, layer_lr = 'backbone', lr * backbone_lr_mult
        decays = parameter.ndim > 1 and not path.endswith(_SWIN_POSITIONS) and id(parameter) not in embeddings
        if not decays:
            name += '_no_decay'
        decay = weight_decay if decays else 0.0
        group = groups.setdefault(name, ParameterGroup(params=[], lr=layer_lr, weight_decay=decay, name=name))
        group['params'].append(parameter)
    return list(groups.values())


def _layers_of(model: nn.Module) -> dict[int, tuple[int, int]]:
    """Return id of a parameter -> (its layer, last layer of its backbone) for every FasterViT in a model."""
    layers: dict[int, tuple[int, int]] = {}
    for module in model.modules():
        if isinstance(module, FasterViT):
            depths = module.spec.depths
            for name, parameter in module.named_parameters():
                layers[id(parameter)] = (layer_index(name, depths), sum(depths) + 1)
    return layers
