"""The command that runs, for files that name what wrote them."""

import shlex
import sys


def command_line() -> str:
    """Return the command as typed; a verb of ``fastervit`` stands in ``sys.argv[0]``."""
    program, *arguments = sys.argv
    if not program.startswith('fastervit '):
        program = shlex.join(['python', program])
    return f'{program} {shlex.join(arguments)}'.rstrip()
