#!/usr/bin/env python
"""``python tools/test.py`` is ``fastervit test``."""

from fastervit_cli import main

if __name__ == '__main__':
    main('test')
