"""Layer-wise learning-rate decay (BEiT, arXiv 2106.08254, appendix; ConvNeXt, arXiv 2201.03545): pure torch.

Layers are numbered from the image: 0 the stem, then one per block through all stages, then everything after the backbone.
"""

import re

from torch import nn

from ..utils.errors import UserError
from .fastervit import FasterViT

#: Parameters of Swin that its recipe does not decay.
_POSITIONS = ('relative_position_bias_table', 'absolute_pos_embed')


def layer_index(name: str, depths: tuple[int, ...]) -> int:
    """Layer of a backbone's parameter.

    Args:
        name: as in ``backbone.named_parameters()``.
        depths: blocks in each stage.

    Returns:
        0 for the stem, 1..sum(depths) for the blocks (a stage's tokenizer counts with its first block, its downsample with its
        last), sum(depths) + 1 for the output norms.

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
    block = int(match[2]) if match[2] else (depths[stage] - 1 if 'downsample' in match[0] else 0)
    return sum(depths[:stage]) + block + 1


def parameter_groups(model: nn.Module, lr: float, weight_decay: float, decay_rate: float = 1.0) -> list[dict]:
    """Groups for a torch optimizer: one per layer, split into decayed and not decayed parameters.

    Vectors (biases, norms, layer scales) get no weight decay, anywhere in the model, and neither do Swin's position tables. The learning
    rate of layer l of a :class:`FasterViT` with n = sum(depths) + 1 is ``lr * decay_rate**(n - l)``; everything else has ``lr``.

    Args:
        model: any module with zero or more FasterViT in it.
        lr: learning rate of the head, above 0.
        weight_decay: at least 0.
        decay_rate: in (0, 1]; 1 gives every layer the same.

    Returns:
        dicts with ``params``, ``lr``, ``weight_decay`` and ``name`` (``layer_3``, ``layer_3_no_decay``, ..., ``head``); frozen
        parameters are in none.

    Raises:
        UserError: decay_rate out of range.
    """
    if not 0.0 < decay_rate <= 1.0:
        raise UserError(f'decay_rate must be in (0, 1], got {decay_rate}')
    layers: dict[int, tuple[int, int]] = {}  # id of a parameter -> (its layer, layers of its backbone)
    for module in model.modules():
        if isinstance(module, FasterViT):
            depths = module.spec.depths
            layers.update(
                (id(p), (layer_index(n, depths), sum(depths) + 1)) for n, p in module.named_parameters()
            )
    groups: dict[str, dict] = {}
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, count = layers.get(id(parameter), (None, 0))
        decays = parameter.ndim > 1 and not path.endswith(_POSITIONS)
        name = ('head' if layer is None else f'layer_{layer}') + ('' if decays else '_no_decay')
        scale = 1.0 if layer is None else decay_rate ** (count - layer)
        group = groups.setdefault(
            name, dict(params=[], lr=lr * scale, weight_decay=weight_decay if decays else 0.0, name=name)
        )
        group['params'].append(parameter)
    return list(groups.values())
