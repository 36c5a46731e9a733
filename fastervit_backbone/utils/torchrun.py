"""Whether torchrun started this process; without torch, which exported files do not need."""

import os


def started_by_torchrun() -> bool:
    """Return whether torchrun started this process, alone or among others."""
    return 'TORCHELASTIC_RUN_ID' in os.environ
