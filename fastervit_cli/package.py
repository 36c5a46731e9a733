"""Parts of the package that need only the standard library, without its torch, which takes seconds."""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from .console import UsageError


def utils(name: str) -> ModuleType:
    """Return ``fastervit_backbone/utils/NAME.py``."""
    return import_module(f'{_room("utils")}.{name}')


def options(name: str) -> type:
    """Return a class of ``fastervit_backbone/options``."""
    return getattr(sys.modules[_room('options')], name)


@cache
def _room(name: str) -> str:
    """Load a folder of the package under a name of its own; return that name.

    Raises:
        UsageError: the package is not installed.
    """
    package = find_spec('fastervit_backbone')
    if package is None or package.origin is None:
        raise UsageError('the package fastervit_backbone is not installed: pip install fastervit-backbone')
    path = Path(package.origin).parent / name / '__init__.py'
    spec = spec_from_file_location(f'{__name__}_{name}', path, submodule_search_locations=[str(path.parent)])
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return spec.name
