"""Fields of options, with what the command line shows of them."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, field, replace
from pathlib import Path
from typing import Any, TypeVar

#: Path of a file or folder.
Place = str | Path
#: Images' (height, width); ``800x1280`` or ``512`` on the command line.
Size = tuple[int, int]
T = TypeVar('T')


def option(default: Any = MISSING, *, help: str, **shown: Any) -> Any:
    """Create a field.

    Args:
        default: its value; none if it is required.
        help: of the command line.
        shown: ``flag`` (instead of ``--name``), ``group``, and what argparse takes: ``metavar``, ``choices``,
            ``nargs``, ``const``. A field with ``positional=True`` has no flag. One that is True by default
            is switched off by ``--no-name``; ``both=True`` keeps both flags.
    """
    return field(default=default, metadata=dict(shown, help=help))


def cfg_options() -> Any:
    """Create the field of ``--cfg-options``."""
    text = 'override config values: a.b=1 c.0.d="[1,2]"'
    return option(None, help=text, flag='--cfg-options', metavar='KEY=VALUE')


def flag_of(item: Field) -> str:
    """Return the flag of a field on the command line."""
    name = item.metadata.get('flag') or f'--{item.name.replace("_", "-")}'
    return f'--no-{name[2:]}' if item.default is True and 'flag' not in item.metadata else name


def resolve(kind: type[T], first: object, values: Mapping[str, Any]) -> T:
    """Return options of ``kind``: ``first`` with other values, or made of its first field and of values.

    Raises:
        TypeError: there is no such option.
    """
    if isinstance(first, kind):
        return replace(first, **values)  # type: ignore[type-var]
    return kind(**values) if first is None else kind(first, **values)  # type: ignore[call-arg]
