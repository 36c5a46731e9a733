"""What every tool does around its work: a person's mistake is one line on stderr and exit code 2, a bug keeps its traceback."""

import argparse
import ast
import sys
from collections.abc import Callable

from .errors import UserError


def run_cli(main: Callable[[], None]) -> None:
    """Run a tool's ``main``; exits with 2 after a :class:`UserError`, 130 after Ctrl-C."""
    try:
        main()
    except UserError as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
    finally:
        _leave_process_group()


def _leave_process_group() -> None:
    """Stop torch.distributed's threads: one that still runs while Python ends can abort a process that has done all its work."""
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


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
