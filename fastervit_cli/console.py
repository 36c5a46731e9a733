"""Frame of every tool: a user error is one line on stderr and exit code 2, a bug keeps its traceback.

This package imports only the standard library, so that ``--help`` answers at once.
"""

import argparse
import ast
import atexit
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from .pins import headless_opencv, missing_library
from .suggest import did_you_mean

#: Packages of the extra ``mm``, without which only the backbone works.
EXTRAS = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'torchvision', 'pycocotools', 'cv2', 'supervision', 'rich')
#: Set by the ``fastervit`` command: tools are its verbs then.
VARIABLE = 'FASTERVIT_COMMAND'


# OpenMP's threads wait for each other in a loop. Where another process keeps the cores busy, this makes
# training half as fast as with shorter loops; alone it makes no difference. torch's libgomp reads the
# variable when it is loaded.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')


class UsageError(Exception):
    """A command line that cannot be understood."""

    exit_code = 2


def as_typed(text: str) -> str:
    """Write ``python tools/check_data.py`` as ``fastervit check-data`` where that is what the user types."""
    if VARIABLE not in os.environ:
        return text
    return re.sub(
        r'(?:python3? )?(?:\S*/)?tools/(\w+)\.py', lambda m: f'fastervit {m[1].replace("_", "-")}', text
    )


def printable(text: str) -> str:
    """Replace what would control a terminal, but for line breaks and tabs, by its escape."""
    return ''.join(c if c.isprintable() or c in '\n\t' else repr(c)[1:-1] for c in text)


def _user_errors() -> tuple[type[Exception], ...]:
    """Return the types of errors that are one line; the package is not imported for them."""
    errors = sys.modules.get('fastervit_backbone.utils.errors')
    return (UsageError,) if errors is None else (UsageError, errors.UserError)


def run_cli(main: Callable[[], None]) -> None:
    """Run ``main`` and exit, with 2 after a user error and 128 + its number after a signal."""
    code: str | int | None = 0
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files can be no text
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ImportError as error:
        library = missing_library(error)
        if library and 'cv2' in f'{error.name} {error.path}':  # an OpenCV with windows, on a machine without
            message = f'OpenCV needs {library}, which this system lacks: {headless_opencv()}'
        elif isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            message = f"this needs the package {error.name}: pip install 'fastervit-backbone[mm]' "
            message += '(in a checkout: make setup)'
        else:
            raise
        print(f'error: {message}', file=sys.stderr)
        code = 2
    except Exception as error:
        if 'torchvision::nms does not exist' in str(error):  # at the import of torchvision
            message = as_typed('torchvision was built for another torch: python tools/doctor.py has the fix')
            print(f'error: {message}', file=sys.stderr)
            sys.exit(2)
        if not isinstance(error, _user_errors()):
            raise
        kind = {'Interrupted': 'stopped', 'OtherProcessError': ''}.get(type(error).__name__, 'error')
        if kind:  # the other process reports it
            print(f'{kind}: {printable(as_typed(" ".join(str(error).split())))}', file=sys.stderr)
        code = getattr(error, 'exit_code', 2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    except SystemExit as error:
        code = error.code
    _exit(code)


def _exit(code: str | int | None) -> None:
    """Exit; in a distributed run without C++'s static destructors.

    Some threads of torch.distributed cannot be stopped, and occasionally one of them aborts a process during
    these destructors, although all its work is done. Python's own exit handlers still run.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        sys.exit(code)
    distributed.destroy_process_group()
    if isinstance(code, str):  # like sys.exit
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def tool_parser(description: str | None) -> argparse.ArgumentParser:
    """Create the parser of a tool, whose ``description`` keeps its line breaks."""
    formatter = argparse.RawDescriptionHelpFormatter
    program = os.environ.get(VARIABLE)
    return argparse.ArgumentParser(
        program, description=as_typed(description or ''), formatter_class=formatter
    )


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
            hint = did_you_mean(name, known) or ': --help lists all options'
            raise UsageError(f'unknown option {name}{hint}')
    args = (parser.parse_intermixed_args if intermixed else parser.parse_args)(arguments)
    threads = getattr(args, 'threads', None)
    if threads is not None:
        if threads < 1:
            raise UsageError(f'--threads {threads}: must be at least 1')
        os.environ['OMP_NUM_THREADS'] = str(threads)  # before torch is imported
    return args


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tools/train.py and tools/test.py share."""
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher that started the processes',
    )
    add_verbose(parser)
    add_threads(parser)
    add_trust_argument(parser)
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add ``--verbose``."""
    parser.add_argument(
        '--verbose', action='store_true', help="show the toolkits' whole log, which always is in the log file"
    )


def hide_toolkit_warnings() -> None:
    """Keep the toolkits' warnings about their own code from the screen; other warnings are shown once."""
    warnings.filterwarnings('ignore', category=UserWarning, module='mm(cv|det|engine|pretrain|seg)')


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
        options = dict(getattr(namespace, self.dest) or {})
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
