#!/usr/bin/env python
"""``python tools/train.py`` is ``fastervit train``."""

from fastervit_cli import main

if __name__ == '__main__':
    main('train')
