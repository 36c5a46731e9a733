"""The commit that a measured number belongs to."""

import subprocess
from pathlib import Path


def current_commit() -> str:
    """Short hash of this clone, with ``-dirty`` where tracked files differ from it; 'unknown' outside a clone."""

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(
                ['git', *arguments], cwd=Path(__file__).parent, capture_output=True, text=True
            ).stdout.strip()
        except FileNotFoundError:  # no git on this machine
            return ''

    commit = git('rev-parse', '--short', 'HEAD') or 'unknown'
    return f'{commit}-dirty' if git('status', '--porcelain', '-uno') else commit
