"""What every tool does around its work: a person's mistake is one line on stderr and exit code 2, a bug keeps its traceback."""

import argparse
import ast
import atexit
import os
import sys
from collections.abc import Callable

from .errors import UserError


def run_cli(main: Callable[[], None]) -> None:
    """Run a tool's ``main``; exits with 2 after a :class:`UserError`, 130 after Ctrl-C."""
    code: object = 0
    try:
        main()
    except UserError as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    except SystemExit as end:
        code = end.code
    _leave(code)


def _leave(code: object) -> None:
    """Exit. One of several processes does all that Python does at its end and leaves out what C++ does after it: torch.distributed has
    threads that no call stops, and now and then one of them aborts a process that has done all its work."""
    distributed = sys.modules.get('torch.distributed')
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        sys.exit(code)
    distributed.destroy_process_group()
    if isinstance(code, str):  # as Python does
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def parse_size(text: str) -> tuple[int, int]:
    """``800x1280`` -> (800, 1280), height first; ``512`` -> (512, 512). For argparse's ``type``."""
    numbers = text.split('x')
    if len(numbers) > 2 or not all(n.isdecimal() for n in numbers):
        raise argparse.ArgumentTypeError(f'{text}: expected HEIGHTxWIDTH, as 800x1280, or one number')
    return int(numbers[0]), int(numbers[-1])


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that tools/train.py and tools/test.py share."""
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', help='change the config: a.b=1 c.0.d="[1,2]"')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='how several processes were started'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


class OptionAction(argparse.Action):
    """``KEY=VALUE`` pairs into a dict; a value is a Python literal (``4``, ``None``, ``[1,2]``) where it reads as one, else text."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: list[str], option_string: object = None
    ) -> None:
        """argparse calls this; repeated options add up."""
        options = dict(getattr(namespace, self.dest) or {})
        for pair in values:
            key, equals, text = pair.partition('=')
            if not equals or not key:
                parser.error(f'{option_string} {pair}: expected KEY=VALUE')
            options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> object:
    """A literal, or true/false in any case, or words and numbers parted by commas, in brackets or not (a list), or the text itself."""
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        inner = text[1:-1] if text[:1] == '[' and text[-1:] == ']' else text
        if (inner is text and ',' not in text) or any(c in inner for c in '([{"\''):
            return text
        return [parse_value(part.strip()) for part in inner.split(',')]
