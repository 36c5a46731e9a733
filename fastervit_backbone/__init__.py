"""FasterViT for dense prediction. Importing this registers the backbone with mmengine, where mmengine is installed."""

from .arch import ARCHS, ArchSpec
from .backbone import FasterViT
from .version import __version__

try:
    from . import engine as engine
except ModuleNotFoundError as missing:
    if missing.name != 'mmengine':
        raise

__all__ = ['ARCHS', 'ArchSpec', 'FasterViT', '__version__']
