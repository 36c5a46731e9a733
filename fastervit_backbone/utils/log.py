"""Messages for the user; needs no mmengine."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .verbosity import is_verbose


def log(message: str) -> None:
    """Log to the current run's logger, which shows it on the screen, or print it to stderr.

    Only the first process prints. Before a run mmengine has a logger of its own, which would put a date and
    its name before each line.
    """
    if 'mmengine' in sys.modules:
        from mmengine.logging import MMLogger

        if any(name != 'mmengine' for name in MMLogger._instance_dict):
            # not print_log: a run's screen shows what is logged from this package
            MMLogger.get_current_instance().info(message)
            return
    if os.environ.get('RANK', '0') == '0':
        print(message, file=sys.stderr)


@contextmanager
def without_info() -> Iterator[None]:
    """Hide what libraries log for information, such as each variable that mmengine puts into a config."""
    before = logging.root.manager.disable
    if not is_verbose():
        logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)
