"""FasterViT for dense prediction. Importing this registers the backbone with mmengine, where mmengine is installed."""

from importlib.util import find_spec

from .arch import ARCHS, ArchSpec
from .backbone import FasterViT
from .version import __version__

if find_spec('mmengine') is not None:
    from . import engine as engine

__all__ = ['ARCHS', 'ArchSpec', 'FasterViT', '__version__']
