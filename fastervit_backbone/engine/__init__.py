"""Everything that needs mmengine. Importing it registers our classes, for our tools and the toolkits' own."""

from importlib import import_module

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, Registry
from mmengine.runner import CheckpointLoader

from ..checkpoints.io import read_checkpoint
from ..datasets.panoptic import stand_in_for_panopticapi
from ..models.fastervit import FasterViT
from ..ops.multimodal import leave_out_multimodal
from ..ops.stand_in import install
from .bfloat16 import BFloat16OptimWrapper
from .layer_decay_constructor import LayerDecayOptimWrapperConstructor
from .runner.loops import EarlyStopping
from .timm_backbone import TimmBackbone

install()  # before anything imports mmcv.ops
stand_in_for_panopticapi()
leave_out_multimodal()

# in mmengine's root registry, where mmdet, mmseg and mmpretrain find them
for backbone in (FasterViT, TimmBackbone):
    MODELS.register_module(module=backbone)
OPTIM_WRAPPERS.register_module(module=BFloat16OptimWrapper)


def _register_lazily(registry: Registry, module: str, name: str) -> None:
    """Register the class ``name`` of one of our modules that import a toolkit, when it is first used."""

    def load() -> type:
        return getattr(import_module(module, __name__), name)

    def build(**options: object) -> object:
        return load()(**options)

    build.load = load
    registry.register_module(name=name, module=build)


_register_lazily(DATASETS, '.label_map_dataset', 'LabelMapDataset')
_register_lazily(DATASETS, '.image_folder_dataset', 'ImageFolderDataset')
_register_lazily(METRICS, '..evaluation.panoptic_metric', 'PanopticMetric')
_register_lazily(MODELS, '.mesa', 'MESAClassifier')
_register_lazily(MODELS, '.multichannel_det', 'MultiChannelDetDataPreprocessor')
_register_lazily(MODELS, '.multichannel_seg', 'MultiChannelSegDataPreProcessor')
_register_lazily(HOOKS, '.mesa', 'MESAHook')

# for init_detector and other functions of the toolkits
CheckpointLoader.register_scheme(
    r'.*\.safetensors$',
    lambda filename, map_location=None, logger=None: read_checkpoint(filename),
    force=True,
)

# mmengine resolves 'mmseg::...' configs through the name of a distribution, which the onedl forks do not
# have; the name of the module works for both
for package in ('mmseg', 'mmpretrain'):
    MODULE2PACKAGE[package] = package
# for bases named 'fastervit_backbone::fastervit/NAME.py', and mmengine's get_config and get_model
MODULE2PACKAGE['fastervit_backbone'] = 'fastervit_backbone'

__all__ = ['BFloat16OptimWrapper', 'EarlyStopping', 'LayerDecayOptimWrapperConstructor', 'TimmBackbone']
