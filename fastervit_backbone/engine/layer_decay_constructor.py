"""Layer-wise learning-rate decay for mmengine configs."""

import copy
from collections.abc import Mapping

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..models.layer_decay import parameter_groups
from ..utils.errors import UserError
from .config.lookup import arguments_of, find_class

_KEYS = ('decay_rate', 'backbone_lr_mult', 'decay_embeddings')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor:
    """Build an optimizer whose learning rate decays layer by layer towards the image.

    In a config: ``optim_wrapper=dict(constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.9), optimizer=...)``.

    Args:
        optim_wrapper_cfg: the rest of the config's ``optim_wrapper``.
        paramwise_cfg: ``decay_rate``, ``backbone_lr_mult`` and ``decay_embeddings`` of
            :func:`~fastervit_backbone.models.layer_decay.parameter_groups`.

    Raises:
        UserError: an unknown key in ``paramwise_cfg``, no learning rate in the optimizer, or a model sharded
            by FSDP.
    """

    def __init__(self, optim_wrapper_cfg: Mapping, paramwise_cfg: Mapping | None = None) -> None:
        self.optim_wrapper_cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        self.paramwise_cfg = dict(paramwise_cfg or {})
        unknown = set(self.paramwise_cfg) - set(_KEYS)
        if unknown:
            raise UserError(
                f'optim_wrapper.paramwise_cfg has unknown key(s) {sorted(unknown)}, expected '
                f'{", ".join(_KEYS)}'
            )
        if 'lr' not in self.optim_wrapper_cfg.get('optimizer', {}):
            raise UserError('optim_wrapper.optimizer needs lr: the rates of the layers are scaled from it')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer over the parameter groups of ``model``, and its wrapper."""
        if any(isinstance(m, FullyShardedDataParallel) for m in model.modules()):
            raise UserError(
                'LayerDecayOptimWrapperConstructor decides weight decay by the shapes of parameters, but '
                'FSDP keeps flat shards: set optim_wrapper.constructor=DefaultOptimWrapperConstructor '
                '(docs/distributed.md)'
            )
        model = model.module if is_model_wrapper(model) else model
        config = dict(self.optim_wrapper_cfg)
        config.setdefault('type', 'OptimWrapper')
        optimizer = dict(config.pop('optimizer'))
        if 'weight_decay' not in optimizer:  # that of its class
            optimizer['weight_decay'] = arguments_of(find_class(optimizer['type'])).get('weight_decay', 0.0)
        optimizer['params'] = parameter_groups(
            model, optimizer['lr'], optimizer['weight_decay'], **self.paramwise_cfg
        )
        return OPTIM_WRAPPERS.build(config, default_args=dict(optimizer=OPTIMIZERS.build(optimizer)))
