"""What needs mmengine: registration, and the runs behind the tools. Importing this registers the backbone and the constructor."""

from mmengine.registry import MODELS

from ..backbone import FasterViT
from .optim_constructor import LayerDecayOptimWrapperConstructor

MODELS.register_module(module=FasterViT)  # the root registry: mmdet and mmseg both find it there

__all__ = ['LayerDecayOptimWrapperConstructor']
