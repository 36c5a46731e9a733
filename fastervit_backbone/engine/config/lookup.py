"""Look up the classes that a config names, and their arguments."""

import importlib
import inspect
import io
from contextlib import redirect_stdout, suppress
from functools import cache

from mmengine.registry import DefaultScope, Registry
from mmengine.registry import root as registries


@cache
def import_toolkit(scope: str | None) -> None:
    """Import the registries of a toolkit, and its data sets without the line that some of them print."""
    for module in ('registry', 'datasets'):
        with suppress(ModuleNotFoundError), redirect_stdout(io.StringIO()):
            importlib.import_module(f'{scope}.{module}')


def find_class(name: object) -> type | None:
    """Find the class of a config's ``type`` in any registry, in the current scope; None if there is none."""
    if inspect.isclass(name):
        return name
    instance = DefaultScope.get_current_instance()
    scope = instance.scope_name if instance else None
    import_toolkit(scope)
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            # of a toolkit without this registry mmengine warns
            local = registry.children.get(scope, registry)
            found = local.get(str(name))
            if inspect.isfunction(found) and hasattr(found, 'load'):  # one of ours, registered lazily
                return found.load()
            if found is not None:
                return found
    return None


def arguments_of(target: object) -> dict[str, object]:
    """Return the parameters of a function or class, with their defaults.

    ``**kwargs`` of a class are followed through its bases.
    """
    functions = [target]
    if inspect.isclass(target):
        functions = [c.__init__ for c in target.__mro__ if '__init__' in vars(c)]
    defaults: dict[str, object] = {}
    for function in functions:
        if function is object.__init__:
            break
        parameters = inspect.signature(function).parameters.values()
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != 'self':
                defaults.setdefault(p.name, None if p.default is p.empty else p.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return defaults
