"""``python -m fastervit_cli`` is the ``fastervit`` command."""

from . import main

if __name__ == '__main__':
    main()
