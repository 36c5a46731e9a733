"""The commit that a measured number belongs to."""

import subprocess
from pathlib import Path


def current_commit() -> str:
    """Return the clone's short hash, with ``-dirty`` if tracked files differ; 'unknown' outside a clone."""
    commit = _git('rev-parse', '--short', 'HEAD') or 'unknown'
    return f'{commit}-dirty' if _git('status', '--porcelain', '-uno') else commit


def _git(*arguments: str) -> str:
    command, folder = ['git', *arguments], Path(__file__).parent
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # git is not installed
        return ''
