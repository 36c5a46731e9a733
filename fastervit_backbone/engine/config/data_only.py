"""Read the config of a published folder as data: nothing in it is run, substituted, imported or opened.

mmengine's ``Config.fromfile`` runs a Python config, replaces ``{{$NAME:default}}`` in its text, and its
registries import whatever a dotted ``type`` names. A published folder comes from somebody else, so here

- the file may only assign literals, and the values are taken from the syntax tree;
- there are only the keys that fastervit publish writes;
- every ``type`` is a registered class of a fixed part of the toolkits or one of some named transforms, data
  sets and metrics, never a path to something that can be imported;
- every other text is a plain word under a key that is known to take one: classes of the toolkits open,
  unpickle, download or evaluate texts that they get under other keys.

:mod:`.published_rules` has the lists.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.registry import root as registries

from ...utils.errors import UserError
from ...utils.literals import assigned_literals
from . import published_rules as rules
from .lookup import import_toolkit


def read_data_config(path: str | Path) -> Config:
    """Read the config of a published folder.

    Raises:
        UserError: it cannot be read, or is more than data; the message names the key.
    """
    path = Path(path)
    try:
        if path.stat().st_size > rules.MAX_BYTES:
            raise UserError(f'{path} has more than {rules.MAX_BYTES} bytes: fastervit publish writes less')
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'cannot read {path}: {error}') from error
    return parse_data_config(text, path)


def parse_data_config(text: str, path: str | Path) -> Config:
    """Build a config from its text, as :func:`read_data_config` does; ``path`` is for messages.

    Raises:
        UserError: it is more than data.
    """
    checker = _Checker(path)
    tree = checker.check(_literals(text, path))
    for module in (tree.get('custom_imports') or {}).get('imports', ()):
        importlib.import_module(module)  # of rules.IMPORTS
    return Config(tree, cfg_text=text, filename=str(path))


def _literals(text: str, path: str | Path) -> dict[str, Any]:
    """Return the values that a text assigns to names."""
    try:
        return assigned_literals(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise _refused(path, f'{reason}, which is code or broken') from error


def _refused(path: str | Path, reason: str) -> UserError:
    return UserError(
        f'{path}: {reason}: a published config holds data of registered classes only (docs/security.md; '
        '--trust-pickle runs it: only for people whom you trust)'
    )


class _Checker:
    """Checks a tree of literals; every message names the key.

    Args:
        path: of the config, for messages.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def check(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tree without options of initial weights; raise UserError if it is more than data."""
        for key in tree:
            if key not in rules.KEYS:
                raise self._error(key, f'no key of a published config ({", ".join(rules.KEYS)})')
        self._check_form(tree)
        scope = tree.get('default_scope', 'mmdet')
        if scope not in rules.SCOPES[:3]:
            raise self._error('default_scope', f'{scope!r}: expected one of {", ".join(rules.SCOPES[:3])}')
        imports = tree.get('custom_imports')
        if imports is not None:
            names = imports.get('imports') if isinstance(imports, dict) else None
            if not isinstance(names, list) or set(imports) - {'imports', 'allow_failed_imports'}:
                raise self._error('custom_imports', 'expected dict(imports=[...])')
            for name in names:
                if name not in rules.IMPORTS:
                    raise self._error('custom_imports', f'{name!r} is not one of {", ".join(rules.IMPORTS)}')
        for name in (scope, *((imports or {}).get('imports') or ())):
            import_toolkit(str(name).partition('.')[0])
        kept = {k: tree[k] for k in ('default_scope', 'custom_imports') if k in tree}
        sections = {k: v for k, v in tree.items() if k not in kept}
        checked = kept | {k: self._node(v, k, k, scope) for k, v in sections.items()}
        checked['test_dataloader'].update(num_workers=0, persistent_workers=False)
        return checked

    def _check_form(self, tree: Mapping[str, Any]) -> None:
        """Raise UserError unless the parts that are looked up by name are there."""
        for key in ('model', 'model.backbone', 'test_dataloader', 'test_dataloader.dataset'):
            node: Any = tree
            for name in key.split('.'):
                node = node.get(name) if isinstance(node, Mapping) else None
            if not isinstance(node, Mapping) or ('type' not in node and key != 'test_dataloader'):
                raise self._error(key, 'expected a dict with a type')

    def _node(self, value: Any, key: str, section: str, scope: str) -> Any:
        """Check a value; ``key`` is its dotted path."""
        name = key.rpartition('.')[2]
        if isinstance(value, dict):
            return self._dict(value, key, section, scope)
        if name == 'pipeline' and not (
            isinstance(value, list | tuple) and all(isinstance(v, dict) and 'type' in v for v in value)
        ):
            raise self._error(key, 'expected a list of dicts with a type')
        if isinstance(value, list | tuple):
            return type(value)(self._node(v, f'{key}.{i}', section, scope) for i, v in enumerate(value))
        if isinstance(value, str):
            if name == 'type':
                return self._type(value, key, section, scope)
            self._text(value, key, section)
        elif isinstance(value, int | float):
            most = rules.MOST.get(name, rules.MAX_INTEGER) if isinstance(value, int) else rules.MAX_NUMBER
            if not abs(value) <= most:
                raise self._error(key, f'{str(value)[:30]} is more than {most:g}')
        return value

    def _text(self, value: str, key: str, section: str) -> None:
        name = _last_name(key)
        if name not in rules.TEXTS[section]:
            raise self._error(key, f'{value[:60]!r}: no text is expected here')
        if not rules.FORMS.get(name, rules.WORD).fullmatch(value):
            raise self._error(key, f'{value[:60]!r} is no plain word')

    def _dict(self, value: dict, key: str, section: str, scope: str) -> dict:
        scope = value.get('_scope_', scope)
        if scope not in rules.SCOPES:
            raise self._error(
                f'{key}._scope_', f'{str(scope)[:60]!r}: expected one of {", ".join(rules.SCOPES)}'
            )
        result = {}
        for name, item in value.items():
            place = f'{key}.{name}'
            if not isinstance(name, str) or not name.isidentifier() or name.startswith('__'):
                raise self._error(key, f'has the key {str(name)[:60]!r}')
            if name in rules.DROPPED:
                continue
            if name == '_scope_':
                result[name] = item
                continue
            if name == 'type' and not isinstance(item, str):
                raise self._error(place, f'{str(item)[:60]}: expected the name of a class')
            if section == 'test_evaluator' and name in rules.WRITES and item:
                raise self._error(place, f'{str(item)[:60]!r}: results of a foreign config are not written')
            if name in ('backend_args', 'file_client_args', 'download') and item:
                raise self._error(place, 'only files of this machine are read')
            if name == 'metainfo' and section == 'test_dataloader':
                result[name] = self._metainfo(item, place)
            else:
                result[name] = self._node(item, place, section, scope)
        if str(value.get('type')).rpartition('.')[2] in ('CIFAR10', 'CIFAR100'):
            result['download'] = False
        return result

    def _metainfo(self, value: Any, key: str) -> Any:
        """Check names of classes and colors: any text, but no dicts in them."""
        # mmengine opens a text as a file
        if not isinstance(value, dict) or not all(isinstance(item, list | tuple) for item in value.values()):
            raise self._error(key, 'expected lists of names and colors')

        def is_plain(item: Any) -> bool:
            return all(map(is_plain, item)) if isinstance(item, list | tuple) else not isinstance(item, dict)

        if not all(map(is_plain, value.values())):
            raise self._error(key, 'expected names and colors')
        return value

    def _type(self, name: str, key: str, section: str, scope: str) -> str:
        """Check that a type is a class that may be built here."""
        parent = _last_name(key.rpartition('.')[0])
        if section == 'model' and parent in rules.FUNCTIONS:
            if name not in rules.FUNCTIONS[parent]:
                raise self._error(key, f'{name[:60]!r}: expected one of {", ".join(rules.FUNCTIONS[parent])}')
            return name
        prefix, _, bare = name.rpartition('.')
        if prefix and prefix not in rules.SCOPES:
            raise self._error(key, f'{name[:60]!r} is no registered class')
        found = _registered(section, prefix or scope, bare)
        if not found:
            raise self._error(key, f'{name[:60]!r} is no registered class')
        names = rules.NAMES.get(section)
        allowed: Callable[[object], bool] = _is_part if names is None else lambda _: bare in names
        if not all(map(allowed, found)):
            raise self._error(key, f'{name[:60]} is not one of the classes that a published config may build')
        return name

    def _error(self, key: str, reason: str) -> UserError:
        return _refused(self.path, f'{key}: {reason}')


def _last_name(key: str) -> str:
    """Return the last part of a dotted path that is no index."""
    return next((part for part in reversed(key.split('.')) if not part.isdecimal()), '')


def _is_part(target: object) -> bool:
    """Return whether a registered class may be a part of a model."""
    if inspect.isfunction(target) and hasattr(target, 'load'):  # one of ours, registered lazily
        return True
    module = str(getattr(target, '__module__', ''))
    return bool(rules.MODULES.match(module)) and not rules.READERS.match(module)


@cache
def _registries(section: str) -> tuple[Registry, ...]:
    names = dict(
        model=('MODELS', 'TASK_UTILS'),
        test_dataloader=('DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS', 'FUNCTIONS'),
        test_evaluator=('METRICS', 'EVALUATOR'),
        test_cfg=('LOOPS',),
    )[section]
    return tuple(getattr(registries, name) for name in names)


def _registered(section: str, scope: str, name: str) -> list[object]:
    """Return what the registries of a section have under a name, in a toolkit or in mmengine's root."""
    import_toolkit(scope)
    found = []
    for registry in _registries(section):
        for candidate in (registry.children.get(scope), registry):
            if candidate is None:
                continue
            candidate.import_from_location()
            if name in candidate.module_dict:
                found.append(candidate.module_dict[name])
                break
    return found
