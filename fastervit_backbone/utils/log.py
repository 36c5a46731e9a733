"""Messages for the user; needs no mmengine."""

import sys


def log(message: str) -> None:
    """Log to mmengine's current logger where mmengine is in use, else to stderr."""
    if 'mmengine' in sys.modules:
        from mmengine.logging import MMLogger

        # not print_log: a run's screen shows what is logged from this package
        MMLogger.get_current_instance().info(message)
    else:
        print(message, file=sys.stderr)
