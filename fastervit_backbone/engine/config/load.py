"""Load configs and apply ``--cfg-options``."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ...checkpoints.model_folder import is_published_config
from ...utils.errors import UserError
from ...utils.log import without_info
from ...utils.places import shipped_configs
from ...utils.suggest import did_you_mean
from ...utils.trust import pickles_are_trusted
from .cfg_options import apply_options
from .data_only import read_data_config
from .lookup import arguments_of
from .write import ReadableConfig


def find_config(path: str | Path) -> Path:
    """Return the file of a config: a path, or the name of one of ours.

    Raises:
        UserError: there is no such file.
    """
    path = Path(path)
    if path.is_file():
        return path
    by_path = shipped_configs()
    ours = by_path | {config.stem: config for config in by_path.values()}
    name = str(path).removesuffix('.py')
    if name in ours:
        return ours[name]
    beside = [p.name for p in path.parent.glob('*.py')] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, beside) or did_you_mean(name, ours)
    raise UserError(f'no config at {path}{hint}: check the path')


def load_config(path: str | Path, options: Mapping[str, object] | None = None) -> ReadableConfig:
    """Read a config and apply options to it.

    A Python config is a program and runs; that of a published folder is read as data (:mod:`.data_only`).

    Args:
        path: a config file.
        options: dotted paths and their values, as parsed from ``--cfg-options``.

    Raises:
        UserError: the file does not exist or cannot be read, or an option names nothing.
    """
    path = find_config(path)
    if is_published_config(path) and not pickles_are_trusted():
        config = ReadableConfig(read_data_config(path))
    else:
        config = ReadableConfig(_run_config(path))
    known = arguments_of(Runner)
    for key in config:
        hint = '' if key in known else did_you_mean(key, known, cutoff=0.88)
        if hint:  # other unknown names are variables from which the file builds the rest
            raise UserError(f'config {path} has the unknown key {key!r}{hint}')
    config.remember_file()
    for part in ('param_scheduler', 'custom_hooks'):
        config.as_in_file[f'{part}_by_option'] = any(key.startswith(part) for key in options or {})
    apply_options(config, options or {})
    return config


def _run_config(path: Path) -> Config:
    try:
        with without_info():
            return Config.fromfile(str(path))
    except Exception as error:  # configs are Python code and can raise anything; the file is at fault
        raise UserError(f'cannot read config {path}: {type(error).__name__}: {error}') from error
