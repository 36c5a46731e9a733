"""``python -m fastervit_cli`` is the ``fastervit`` command."""

from . import main

main()
