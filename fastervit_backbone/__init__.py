"""FasterViT for dense prediction; importing it registers it with mmengine and timm, if installed."""

from .models.arch import ARCHS, ArchSpec
from .models.fastervit import FasterViT
from .version import __version__

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
