"""``python -m fastervit_backbone VERB`` is ``fastervit VERB``."""

from fastervit_cli import main

main()
