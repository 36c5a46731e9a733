"""Parsing of command lines, and the options that several verbs have."""

import argparse
import ast
import gc
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from . import package
from .console import UsageError


class _VerbParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise UsageError, one line; argparse would print the whole usage before it."""
        raise UsageError(f'{message} ({self.prog} --help lists the options)')


def verb_parser(description: str | None) -> argparse.ArgumentParser:
    """Create the parser of a verb, whose ``description`` keeps its line breaks."""
    formatter = argparse.RawDescriptionHelpFormatter
    return _VerbParser(description=description, formatter_class=formatter)


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``800x1280`` to (800, 1280), height first, and ``512`` to (512, 512); for argparse's ``type``."""
    numbers = text.split('x')
    if len(numbers) > 2 or not all(n.isdecimal() for n in numbers):
        raise argparse.ArgumentTypeError(f'{text}: expected HEIGHTxWIDTH, such as 800x1280, or one number')
    return int(numbers[0]), int(numbers[-1])


def parse_strictly(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None, *, intermixed: bool = False
) -> argparse.Namespace:
    """Parse arguments without abbreviations and suggest the closest match for an unknown option.

    ``intermixed``: an optional positional argument may follow options.

    Raises:
        UsageError: an unknown option, or no thread.
    """
    parser.allow_abbrev = False
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in sys.argv[1:] if arguments is None else arguments:
        name = argument.split('=')[0]
        if name.startswith('--') and name not in (*known, '--'):
            hint = package.utils('suggest').did_you_mean(name, known) or ': --help lists all options'
            raise UsageError(f'unknown option {name}{hint}')
    args = (parser.parse_intermixed_args if intermixed else parser.parse_args)(arguments)
    threads = getattr(args, 'threads', None)
    if threads is not None:
        if threads < 1:
            raise UsageError(f'--threads {threads}: must be at least 1')
        os.environ['OMP_NUM_THREADS'] = str(threads)  # before torch is imported
        if 'torch' in sys.modules:  # python -m fastervit_backbone
            sys.modules['torch'].set_num_threads(threads)
    return args


def add_fields(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add the fields of a class of ``fastervit_backbone/options``; only what is typed is in the result."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    hints = get_type_hints(kind)
    for item in fields(kind):
        shown = dict(item.metadata)
        title, positional = shown.pop('group', None), shown.pop('positional', False)
        if title is not None and title not in groups:
            groups[title] = parser.add_argument_group(title)
        target = parser if title is None else groups[title]
        shown.pop('flag', None)
        shown = _how_to_parse(hints[item.name], item, positional, shown.pop('both', False)) | shown
        if positional:
            target.add_argument(item.name, **shown)
        else:
            flag = package.options('flag_of')(item)
            target.add_argument(flag, dest=item.name, default=argparse.SUPPRESS, **shown)


def _how_to_parse(hint: Any, item: Field, positional: bool, both: bool) -> dict[str, Any]:
    """Return what argparse needs to read a field."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if _is_union(hint) else [hint]
    origins = [get_origin(kind) or kind for kind in kinds]
    if kinds == [bool]:
        if both:
            return dict(action=argparse.BooleanOptionalAction)
        return dict(action='store_false' if item.default else 'store_true')
    if Mapping in origins:
        return dict(action=OptionAction, nargs='+')
    if Sequence in origins:
        items = {item for kind in kinds for item in get_args(kind) if get_origin(kind) is Sequence}
        return dict(nargs='*' if positional else '+') | (dict(type=int) if items == {int} else {})
    if tuple in origins:
        return dict(type=parse_size)
    if positional and item.default is None:
        return dict(nargs='?')
    number = next((kind for kind in (int, float) if kind in kinds), None)
    return {} if number is None else dict(type=number)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def values_of(args: argparse.Namespace, kind: type) -> dict[str, Any]:
    """Return the fields of ``kind`` that were typed."""
    given = {item.name: getattr(args, item.name, None) for item in fields(kind)}
    return {name: value for name, value in given.items() if value not in (None, [])}


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``train`` and ``test`` share."""
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher that started the processes',
    )
    add_process_arguments(parser)


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what concerns the process, not the run: ``--verbose``, ``--threads``, ``--trust-pickle``."""
    add_verbose(parser)
    add_threads(parser)
    add_trust_argument(parser)
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add ``--verbose``."""
    parser.add_argument(
        '--verbose', action='store_true', help="show the toolkits' whole log, which always is in the log file"
    )


def freeze_imports() -> None:
    """Leave what was imported out of garbage collections: mmengine's take half a second each otherwise."""
    gc.freeze()


def hide_toolkit_warnings() -> None:
    """Keep the toolkits' warnings about their own code from the screen; other warnings are shown once."""
    warnings.filterwarnings('ignore', category=UserWarning, module='mm(cv|det|engine|pretrain|seg)')
    warnings.filterwarnings('ignore', message='torch.meshgrid')  # as mmdet calls it


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verbs that load a Predictor."""
    parser.add_argument('config', help='config of the model, an exported file, or a published folder')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file or URL, or a work dir (its last checkpoint); none if CONFIG is no config',
    )
    parser.add_argument('--device', help='cpu, cuda or cuda:1 (default: cuda if available)')
    parser.add_argument(
        '--size', type=parse_size, metavar='HxW', help="fit images into this size (default: the config's)"
    )
    add_cfg_options(parser)
    add_threads(parser)
    add_trust_argument(parser)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionAction,
        metavar='KEY=VALUE',
        help='override config values: a.b=1 c.0.d="[1,2]"',
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument('--threads', type=int, metavar='N', help='CPU threads (default: one per core)')


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-pickle``, for :func:`~fastervit_backbone.utils.trust.trusting_pickles`."""
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='run code that a checkpoint holds beside its weights: only for your own files',
    )


class OptionAction(argparse.Action):
    """Collect ``KEY=VALUE`` pairs in a dict, with values from :func:`parse_value`.

    mmengine's ``DictAction`` does not parse dicts (``custom_hooks="[{'type': 'EMAHook'}]"`` becomes text),
    deletes spaces inside values (paths), turns quoted numbers (``"'4'"``) into numbers, and fails with a
    traceback on a missing ``=`` and on unbalanced brackets.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add the pairs to those of earlier occurrences of the option."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values or ():
            key, equals, text = pair.partition('=')
            if not equals or not key:
                parser.error(f'{option_string} {pair}: expected KEY=VALUE')
            options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> object:
    """Parse a Python literal (``4``, ``None``, ``[1,2]``), true/false in any case or a comma-separated list.

    The items of a list, in brackets or not, are parsed the same way. Anything else is returned as text.
    """
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        bracketed = text.startswith('[') and text.endswith(']')
        inner = text[1:-1] if bracketed else text
        if (not bracketed and ',' not in text) or any(c in inner for c in '([{"\''):
            return text
        return [parse_value(part.strip()) for part in inner.split(',')]
