"""What needs mmengine. Importing this registers backbones, optimizer constructor and hooks, for mmdet's and mmseg's own tools too."""

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import MODELS

from ..models.fastervit import FasterViT
from .layer_decay_constructor import LayerDecayOptimWrapperConstructor
from .runner.loops import EarlyStopping
from .timm_backbone import TimmBackbone

for backbone in (FasterViT, TimmBackbone):  # in the root registry: mmdet and mmseg both find it there
    MODELS.register_module(module=backbone)

# mmengine looks for 'mmseg::...' configs in a package called mmsegmentation, which the onedl fork is not; the module's name finds both
MODULE2PACKAGE['mmseg'] = 'mmseg'

__all__ = ['EarlyStopping', 'LayerDecayOptimWrapperConstructor', 'TimmBackbone']
