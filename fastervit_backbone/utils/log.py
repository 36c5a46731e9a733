"""Messages for the user; needs no mmengine."""

import sys


def log(message: str) -> None:
    """Log to mmengine's current logger where mmengine is in use, else to stderr."""
    if 'mmengine' in sys.modules:
        from mmengine.logging import print_log

        print_log(message, logger='current')
    else:
        print(message, file=sys.stderr)
