#!/usr/bin/env python
"""``python tools/doctor.py`` is ``fastervit doctor``, also in a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from fastervit_cli import main

if __name__ == '__main__':
    main('doctor')
