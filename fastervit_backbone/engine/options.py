"""Configs and ``--cfg-options``: an option that names nothing is an error, not a new key."""

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry, init_default_scope
from mmengine.registry import root as registries
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..errors import UserError

#: Keys that mmengine reads although no constructor names them.
_ROOT_EXTRA = ('auto_scale_lr', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'tta_model', 'tta_pipeline')
_UNTYPED = {
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'randomness': Runner.set_randomness,
}


def load_config(path: str | Path, options: Mapping[str, object] | None = None) -> Config:
    """Read a config and apply options to it.

    Args:
        path: a config file.
        options: dotted paths and their values, as ``--cfg-options`` gives them.

    Raises:
        UserError: no such file, a config that cannot be read, or an option that names nothing.
    """
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(path.stem, [p.stem for p in path.parent.glob('*.py')], n=1)
        raise UserError(f'no config at {path}' + (f': did you mean {path.with_name(near[0] + ".py")}?' if near else ': check the path'))
    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # configs are Python: anything can come out, and the file is what is wrong
        raise UserError(f'cannot read config {path}: {type(error).__name__}: {error}') from error
    if options:
        init_default_scope(config.get('default_scope', 'mmengine'))
        for option in options:
            _check_option(config, option)
        config.merge_from_dict(dict(options))
    return config


def _check_option(config: Config, option: str) -> None:
    """Raise unless every part of a dotted path is in the config, or is an argument of what the config builds there."""
    node: object = config.to_dict()
    done: list[str] = []
    for part in option.split('.'):
        known = _known_keys(node, done)
        if part not in known:
            where = '.'.join(done) or 'the config'
            near = difflib.get_close_matches(part, sorted(known), n=1)
            advice = f'did you mean {near[0]!r}?' if near else f'it has {", ".join(sorted(known)[:12]) or "no options"}'
            raise UserError(f'--cfg-options {option}: {where} has no option {part!r}; {advice}')
        done.append(part)
        if isinstance(node, list | tuple):
            node = node[int(part)]
        elif part in node:
            node = node[part]
        else:
            return  # an argument with a default: what it takes inside is its own matter


def _known_keys(node: object, path: list[str]) -> set[str]:
    if isinstance(node, list | tuple):
        return {str(i) for i in range(len(node))}
    if not isinstance(node, Mapping):
        return set()
    known = set(node)
    if not path:
        known |= _arguments(Runner) | set(_ROOT_EXTRA)
    elif 'type' in node:
        target = find_class(node['type'])
        known |= _arguments(target) if target is not None else set()
    elif len(path) == 1 and path[0] in _UNTYPED:
        known |= _arguments(_UNTYPED[path[0]])
    return known


def find_class(name: object) -> type | None:
    """The class behind a config's ``type``, from any registry in the current scope; None where there is none."""
    if inspect.isclass(name):
        return name
    scope = DefaultScope.get_current_instance()
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            with registry.switch_scope_and_registry(scope.scope_name if scope else None) as local:
                found = local.get(str(name))
            if found is not None:
                return found
    return None


def _arguments(target: object) -> set[str]:
    """Names that a class (following ``**kwargs`` through its bases) or a function takes."""
    functions = [c.__init__ for c in target.__mro__ if '__init__' in vars(c)] if inspect.isclass(target) else [target]
    names: set[str] = set()
    for function in functions:
        if function is object.__init__:
            break
        parameters = inspect.signature(function).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {'self'}
