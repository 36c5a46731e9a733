"""FasterViT for dense prediction; importing it registers it with mmengine and timm, if installed.

Without torch only exported files can be used: ``from fastervit_backbone.inference import Predictor``.
"""

from importlib.util import find_spec

from .version import __version__

if find_spec('torch') is None:
    __all__ = ['__version__']
else:
    from .checkpoints.published import load_published
    from .models.arch import ARCHS, ArchSpec
    from .models.fastervit import FasterViT

    FasterViT.load_pretrained = load_published

    try:
        from . import engine as engine
    except ModuleNotFoundError as missing:
        if missing.name != 'mmengine':
            raise

    try:
        from . import timm_models as timm_models
    except ModuleNotFoundError as missing:
        if missing.name != 'timm':
            raise

    __all__ = ['ARCHS', 'ArchSpec', 'FasterViT', '__version__']
