"""The command that runs, for files that name what wrote them."""

import shlex
import sys


def command_line() -> str:
    """Return the command as typed; a verb of ``fastervit`` stands in ``sys.argv[0]``."""
    program = sys.argv[0] if sys.argv[0].startswith('fastervit ') else shlex.join(['python', sys.argv[0]])
    return shlex.join([program, *sys.argv[1:]]).replace(shlex.quote(program), program, 1)
