"""Everything that needs mmengine. Importing it registers our classes, for our tools and the toolkits' own."""

from typing import TYPE_CHECKING

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATASETS, MODELS

from ..models.fastervit import FasterViT
from ..ops.stand_in import install
from .layer_decay_constructor import LayerDecayOptimWrapperConstructor
from .runner.loops import EarlyStopping
from .timm_backbone import TimmBackbone

install()  # before anything imports mmcv.ops

if TYPE_CHECKING:
    from .label_map_dataset import LabelMapDataset

# in mmengine's root registry, where both mmdet and mmseg find them
for backbone in (FasterViT, TimmBackbone):
    MODELS.register_module(module=backbone)


@DATASETS.register_module(name='LabelMapDataset')
def build_label_map_dataset(**options: object) -> 'LabelMapDataset':
    """Build a LabelMapDataset from the class's options; only then is mmseg imported."""
    from .label_map_dataset import LabelMapDataset

    return LabelMapDataset(**options)


# mmengine resolves 'mmseg::...' configs through the distribution "mmsegmentation", which the onedl fork does
# not have; the name of the module works for both
MODULE2PACKAGE['mmseg'] = 'mmseg'
# for bases named 'fastervit_backbone::fastervit/NAME.py', and mmengine's get_config and get_model
MODULE2PACKAGE['fastervit_backbone'] = 'fastervit_backbone'

__all__ = ['EarlyStopping', 'LayerDecayOptimWrapperConstructor', 'TimmBackbone']
