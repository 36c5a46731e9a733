"""Stand in for ``mmcv._ext`` where mmcv has no compiled operators."""

import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..utils.errors import UserError

NAME = 'mmcv._ext'


class OperatorStandIn(ModuleType):
    """A module with operators on torchvision or in torch under mmcv's names; any other raises when called."""

    def __init__(self) -> None:
        super().__init__(NAME, self.__doc__)
        self.__spec__ = ModuleSpec(NAME, None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the operator ``name``."""
        if name.startswith('__'):
            raise AttributeError(name)
        if name.startswith('get_compil'):  # mmcv.ops.info, for environment reports
            return lambda: 'operators: torchvision'
        from . import boxes, deformable, masked_conv, torchvision_ops

        for module in (torchvision_ops, deformable, boxes, masked_conv):
            operator: Callable[..., Any] | None = vars(module).get(name)
            if operator is not None and operator.__module__ == module.__name__ and name[0] != '_':
                return operator
        return _missing(name)


def _missing(name: str) -> Callable[..., Any]:
    def operator(*args: object, **kwargs: object) -> None:
        from .torchvision_ops import COMPILE

        raise UserError(f'the operator {name} of mmcv has no counterpart here: {COMPILE}')

    return operator


def has_compiled_operators() -> bool:
    """Return whether mmcv is installed with compiled operators; mmcv is not imported."""
    spec = find_spec('mmcv')
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return any(
        (Path(folder) / f'_ext{suffix}').is_file() for folder in folders for suffix in EXTENSION_SUFFIXES
    )


def install() -> None:
    """Let mmcv find torchvision's operators, unless it has its own or is not installed."""
    if not is_active() and find_spec('mmcv') is not None and not has_compiled_operators():
        sys.modules[NAME] = OperatorStandIn()


def is_active() -> bool:
    """Return whether mmcv's operators are torchvision's."""
    return isinstance(sys.modules.get(NAME), OperatorStandIn)
