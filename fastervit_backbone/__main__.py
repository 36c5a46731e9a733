"""``python -m fastervit_backbone VERB`` is ``fastervit VERB``."""

from fastervit_cli import main

if __name__ == '__main__':
    main()
