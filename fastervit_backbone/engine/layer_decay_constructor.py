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


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor:
    """``optim_wrapper=dict(constructor='LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(decay_rate=0.9), optimizer=...)``.

    Args:
        optim_wrapper_cfg: the rest of the config's ``optim_wrapper``.
        paramwise_cfg: ``decay_rate`` in (0, 1], see :func:`~fastervit_backbone.models.layer_decay.parameter_groups`; default 1.

    Raises:
        UserError: another key in ``paramwise_cfg``, no learning rate in the optimizer, or a model sharded by FSDP.
    """

    def __init__(self, optim_wrapper_cfg: Mapping, paramwise_cfg: Mapping | None = None) -> None:
        self.optim_wrapper_cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        self.paramwise_cfg = dict(paramwise_cfg or {})
        unknown = set(self.paramwise_cfg) - {'decay_rate'}
        if unknown:
            raise UserError(
                f'optim_wrapper.paramwise_cfg has unknown key(s) {sorted(unknown)}, expected decay_rate'
            )
        if 'lr' not in self.optim_wrapper_cfg.get('optimizer', {}):
            raise UserError('optim_wrapper.optimizer needs lr: the layers are scaled from it')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Optimizer over the groups of ``model``, in its wrapper."""
        if any(isinstance(m, FullyShardedDataParallel) for m in model.modules()):
            raise UserError(
                'optim_wrapper.constructor=LayerDecayOptimWrapperConstructor tells weights by their shape, and FSDP keeps flat shards: '
                'set DefaultOptimWrapperConstructor (docs/distributed.md)'
            )
        model = model.module if is_model_wrapper(model) else model
        config = dict(self.optim_wrapper_cfg)
        config.setdefault('type', 'OptimWrapper')
        optimizer = dict(config.pop('optimizer'))
        optimizer['params'] = parameter_groups(
            model, optimizer['lr'], optimizer.get('weight_decay', 0.0), **self.paramwise_cfg
        )
        return OPTIM_WRAPPERS.build(config, default_args=dict(optimizer=OPTIMIZERS.build(optimizer)))
