"""The ``fastervit`` command as a script, for forks and for torchrun."""

from fastervit_cli import main

if __name__ == '__main__':
    main()
