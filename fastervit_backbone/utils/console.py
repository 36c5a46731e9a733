"""What every tool does around its work: a person's mistake is one line on stderr and exit code 2, a bug keeps its traceback."""

import argparse
import ast
import atexit
import difflib
import os
import sys
from collections.abc import Callable, Sequence

from .errors import ElsewhereError, Interrupted, UserError


def run_cli(main: Callable[[], None]) -> None:
    """Run a tool's ``main``; exits with 2 after a :class:`UserError`, 128 + its number after a signal."""
    code: object = 0
    try:
        main()
    except ElsewhereError as error:
        code = error.exit_code
    except UserError as error:
        print(
            f'{"stopped" if isinstance(error, Interrupted) else "error"}: {" ".join(str(error).split())}',
            file=sys.stderr,
        )
        code = error.exit_code
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


def parse_strictly(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """``parser.parse_args``, which says what an option that there is not may have been meant to be. Options are not shortened."""
    parser.allow_abbrev = False
    known = [option for action in parser._actions for option in action.option_strings]
    for word in sys.argv[1:] if arguments is None else arguments:
        name = word.split('=')[0]
        if name.startswith('--') and name not in (*known, '--'):
            near = difflib.get_close_matches(name, known, n=1)
            raise UserError(
                f'there is no option {name}'
                + (f': did you mean {near[0]}?' if near else ', --help lists them')
            )
    return parser.parse_args(arguments)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that tools/train.py and tools/test.py share."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionAction,
        metavar='KEY=VALUE',
        help='change the config: a.b=1 c.0.d="[1,2]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how several processes were started',
    )
    add_trust_argument(parser)
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """``--trust-pickle``, for :func:`~fastervit_backbone.checkpoints.io.trusting_pickles`."""
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='run the code that a checkpoint holds beside its weights: for files of your own alone',
    )


class OptionAction(argparse.Action):
    """``KEY=VALUE`` pairs into a dict; a value is a Python literal (``4``, ``None``, ``[1,2]``) where it reads as one, else text."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: object = None,
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
