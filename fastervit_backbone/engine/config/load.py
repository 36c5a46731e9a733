"""Configs and ``--cfg-options``: an option that names nothing is an error, not a new key."""

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry, init_default_scope
from mmengine.registry import root as registries
from mmengine.runner import Runner
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from ...utils.errors import UserError
from .. import build_label_map_dataset

#: Keys of a whole config that mmengine reads although its runner's constructor does not name them.
_ROOT_EXTRA = (
    *('auto_scale_lr', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn', 'compile'),
    *('activation_checkpointing', 'tta_model', 'tta_pipeline'),
)
#: What takes the entries of dicts without a type.
_UNTYPED = {
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'randomness': Runner.set_randomness,
    'optim_wrapper.clip_grad': clip_grad_norm_,
}
_FREE = ('optim_wrapper.paramwise_cfg',)  # checked by the constructor that reads it


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
        raise UserError(
            f'no config at {path}'
            + (f': did you mean {path.with_name(near[0] + ".py")}?' if near else ': check the path')
        )
    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # configs are Python: anything can come out, and the file is what is wrong
        raise UserError(f'cannot read config {path}: {type(error).__name__}: {error}') from error
    known = arguments_of(Runner)
    for key in config:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.88)
        if key not in known and near:
            raise UserError(f'config {path} has {key!r}, which nothing reads: did you mean {near[0]!r}?')
    if options:
        init_default_scope(config.get('default_scope', 'mmengine'))
        # types first: what else is allowed depends on them
        for option in sorted(options, key=lambda o: not o.endswith('.type')):
            _check_value(option, _check_option(config, option), options[option])
            config.merge_from_dict({option: options[option]})
    return config


def _check_value(option: str, before: object, value: object) -> None:
    """Raise where a number is set to a text, or a group of options to one number or text."""
    if isinstance(before, int | float) and not isinstance(before, bool) and isinstance(value, str):
        raise UserError(f'--cfg-options {option}={value}: it is {before!r}, and must be a number')
    if isinstance(before, Mapping) and isinstance(value, str | int | float):
        within = ', '.join(list(before)[:12])
        raise UserError(
            f'--cfg-options {option}={value}: that is a group of options ({within}): set one of those, {option}.KEY=VALUE'
        )


def _check_option(config: Config, option: str) -> object:
    """Raise unless every part of a dotted path is in the config, or is an argument of what the config builds there; returns what is set."""
    node: object = config.to_dict()
    parts = option.split('.')
    for i, part in enumerate(parts):
        where = '.'.join(parts[:i])
        known = _known_keys(node, where)
        if part not in known and where not in _FREE:
            near = difflib.get_close_matches(part, sorted(known), n=1)
            advice = (
                f'did you mean {near[0]!r}?'
                if near
                else f'it has {", ".join(sorted(known)[:12]) or "no options"}'
            )
            if not where and part in node:
                advice = 'it is a variable of the config file, used up when that was read: set what it was used for'
            raise UserError(
                f'--cfg-options {option}: {where or "the config"} has no option {part!r}; {advice}'
            )
        if isinstance(node, list | tuple):
            node = node[int(part)]
        elif part in node:
            node = node[part]
        elif (
            i + 1 < len(parts)
            and known.get(part) is not None
            and not isinstance(known[part], Mapping | list | tuple)
        ):
            raise UserError(
                f'--cfg-options {option}: {where}.{part} is {known[part]!r} unless set, and has no options within'
            )
        else:
            return (
                known.get(part) if i + 1 == len(parts) else None
            )  # not set yet: what it takes inside is its own matter
    return node


def _known_keys(node: object, where: str) -> dict[str, object]:
    """Keys that may be set in a node of the config, with the default of those that are not."""
    if isinstance(node, list | tuple):
        return {str(i): None for i in range(len(node))}
    if not isinstance(node, Mapping):
        return {}
    if not where:  # other names there are variables that built the rest
        return arguments_of(Runner) | dict.fromkeys(_ROOT_EXTRA)
    known: dict[str, object] = {}
    if 'type' in node:
        target = find_class(node['type'])
        known = {} if target is None else arguments_of(target)
        if where == 'optim_wrapper':
            known |= dict(constructor=None, paramwise_cfg=None)
    elif where in _UNTYPED:
        known = arguments_of(_UNTYPED[where])
    return known | dict.fromkeys(node)


def find_class(name: object) -> type | None:
    """The class behind a config's ``type``, from any registry in the current scope; None where there is none."""
    if inspect.isclass(name):
        return name
    scope = DefaultScope.get_current_instance()
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            with registry.switch_scope_and_registry(scope.scope_name if scope else None) as local:
                found = local.get(str(name))
            if found is build_label_map_dataset:
                from ..label_map_dataset import LabelMapDataset

                return LabelMapDataset
            if found is not None:
                return found
    return None


def arguments_of(target: object) -> dict[str, object]:
    """Names that a class (following ``**kwargs`` through its bases) or a function takes, with their defaults."""
    functions = (
        [c.__init__ for c in target.__mro__ if '__init__' in vars(c)] if inspect.isclass(target) else [target]
    )
    names: dict[str, object] = {}
    for function in functions:
        if function is object.__init__:
            break
        parameters = inspect.signature(function).parameters.values()
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != 'self':
                names.setdefault(p.name, None if p.default is p.empty else p.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names
