"""Check ``--cfg-options`` against a config: an option that names nothing is an error, not a new key."""

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.distributed import init_process_group
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from ...utils.errors import UserError
from ...utils.suggest import did_you_mean
from .lookup import arguments_of, find_class

#: Top-level keys that mmengine reads although the constructor of its runner does not name them.
_EXTRA_ROOT_KEYS = (
    *('auto_scale_lr', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn', 'compile'),
    *('activation_checkpointing', 'tta_model', 'tta_pipeline'),
)
#: Callables that take the entries of dicts without a type.
_UNTYPED = {
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'randomness': Runner.set_randomness,
    'env_cfg.dist_cfg': init_process_group,
    'optim_wrapper.clip_grad': clip_grad_norm_,
}
_UNCHECKED = ('optim_wrapper.paramwise_cfg',)  # the constructor that reads it checks it
_MAX_LISTED = 12


def apply_options(config: Config, options: Mapping[str, object]) -> None:
    """Set options in a config, in place.

    Args:
        config: whole config.
        options: dotted paths and their values, as parsed from ``--cfg-options``.

    Raises:
        UserError: an option names nothing, or its value cannot replace the current one.
    """
    if options:
        init_default_scope(config.get('default_scope', 'mmengine'))
    # types first: they decide which other options exist
    for option in sorted(options, key=lambda o: not o.endswith('.type')):
        _check_value(option, _current_value(config, option), options[option])
        config.merge_from_dict({option: options[option]})


def _check_value(option: str, current: object, value: object) -> None:
    """Raise UserError if a text replaces a number, or a single value replaces a group of options."""
    is_number = isinstance(current, int | float) and not isinstance(current, bool)
    if is_number and isinstance(value, str):
        raise UserError(f'--cfg-options {option}={value}: it must be a number, and is {current!r} now')
    if isinstance(current, Mapping) and isinstance(value, str | int | float):
        members = ', '.join(list(current)[:_MAX_LISTED])
        raise UserError(
            f'--cfg-options {option}={value}: that is a group of options ({members}): set one of them, '
            f'{option}.KEY=VALUE'
        )


def _current_value(config: Config, option: str) -> object:
    """Return the value of an option, or its default if it is not set.

    Raises:
        UserError: a part of the dotted path is neither in the config nor an argument of the class that the
            config builds there.
    """
    node: object = config.to_dict()
    parts = option.split('.')
    for depth, part in enumerate(parts):
        parent = '.'.join(parts[:depth])
        known = _known_keys(node, parent)
        if part not in known and parent not in _UNCHECKED:
            reason = _unknown_part(node, parent, part, known)
            raise UserError(
                f'--cfg-options {option}: {parent or "the config"} has no option {part!r}{reason}'
            )
        if isinstance(node, list | tuple):
            node = node[int(part)]
        elif part in node:
            node = node[part]
        elif depth + 1 == len(parts):
            return known.get(part)
        else:
            default = known.get(part)
            if default is not None and not isinstance(default, Mapping | list | tuple):
                raise UserError(
                    f'--cfg-options {option}: {parent}.{part} is {default!r} by default, which has no options'
                )
            return None  # not set: its own options are unknown here
    return node


def _unknown_part(node: object, parent: str, part: str, known: Mapping[str, object]) -> str:
    """Explain why a key cannot be set, or which keys can."""
    if not parent and part in node:
        return ': it is a variable of the config file; set the options that were built from it'
    options = ', '.join(sorted(known)[:_MAX_LISTED]) or 'no options'
    return did_you_mean(part, sorted(known)) or f'; it has {options}'


def _known_keys(node: object, path: str) -> dict[str, object]:
    """Return the keys that may be set at a path of the config, with the defaults of unset ones."""
    if isinstance(node, list | tuple):
        return {str(i): None for i in range(len(node))}
    if not isinstance(node, Mapping):
        return {}
    if not path:  # other top-level names are variables from which the file builds the rest
        return arguments_of(Runner) | dict.fromkeys(_EXTRA_ROOT_KEYS)
    known: dict[str, object] = {}
    if 'type' in node:
        target = find_class(node['type'])
        known = {} if target is None else arguments_of(target)
        if path == 'optim_wrapper':
            known |= dict(constructor=None, paramwise_cfg=None)
    elif path in _UNTYPED:
        known = arguments_of(_UNTYPED[path])
    return known | dict.fromkeys(node)
