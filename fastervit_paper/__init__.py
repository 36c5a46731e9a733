"""What only a reader of the paper needs: its ablations and their networks, its tables, profiles and kernels.

Configs use the networks by ``custom_imports = dict(imports=['fastervit_paper'])`` and
``model.backbone.type='FasterViTVariant'``.
"""

from importlib.util import find_spec

from .variants import FasterViTVariant

__all__ = ['FasterViTVariant']

if find_spec('mmengine') is not None:
    from mmengine.registry import MODELS

    MODELS.register_module(module=FasterViTVariant)
