"""FasterViT for dense prediction; importing it registers the backbone with mmengine, if installed."""

from .models.arch import ARCHS, ArchSpec
from .models.fastervit import FasterViT
from .version import __version__

try:
    from . import engine as engine
except ModuleNotFoundError as missing:
    if missing.name != 'mmengine':
        raise

__all__ = ['ARCHS', 'ArchSpec', 'FasterViT', '__version__']
