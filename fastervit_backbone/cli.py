"""What every tool does around its work: a person's mistake is one line on stderr and exit code 2, a bug keeps its traceback."""

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
