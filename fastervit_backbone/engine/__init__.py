"""What needs mmengine. Importing this registers our classes, for the toolkits' own tools as well as ours."""

from typing import TYPE_CHECKING

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATASETS, MODELS

from ..models.fastervit import FasterViT
from .layer_decay_constructor import LayerDecayOptimWrapperConstructor
from .runner.loops import EarlyStopping
from .timm_backbone import TimmBackbone

if TYPE_CHECKING:
    from .label_map_dataset import LabelMapDataset

for backbone in (FasterViT, TimmBackbone):  # in the root registry: mmdet and mmseg both find it there
    MODELS.register_module(module=backbone)


@DATASETS.register_module(name='LabelMapDataset')
def build_label_map_dataset(**options: object) -> 'LabelMapDataset':
    """Import mmseg only when a config asks for this data set; options as of the class."""
    from .label_map_dataset import LabelMapDataset

    return LabelMapDataset(**options)


# mmengine looks for 'mmseg::...' configs in a package called mmsegmentation, which the onedl fork is not;
# the module's name finds both
MODULE2PACKAGE['mmseg'] = 'mmseg'

__all__ = ['EarlyStopping', 'LayerDecayOptimWrapperConstructor', 'TimmBackbone']
