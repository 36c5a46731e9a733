"""Modules of the package that need only the standard library, without its torch, which takes seconds."""

from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from .console import UsageError


@cache
def utils(name: str) -> ModuleType:
    """Load ``fastervit_backbone/utils/NAME.py`` by itself.

    Raises:
        UsageError: the package is not installed.
    """
    package = find_spec('fastervit_backbone')
    if package is None or package.origin is None:
        raise UsageError('the package fastervit_backbone is not installed: pip install fastervit-backbone')
    spec = spec_from_file_location(f'{__name__}.{name}', Path(package.origin).parent / 'utils' / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
