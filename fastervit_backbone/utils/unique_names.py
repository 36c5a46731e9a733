"""Names of files that are written, so that none overwrites another."""

import os
from pathlib import Path

#: Suffixes of what is written.
_SUFFIXES = ('.jpg', '.png', '.mp4', '.txt')


class UniqueNames:
    """Hands out every name only once."""

    def __init__(self) -> None:
        self._stems: set[str] = set()
        self._folders: set[str] = set()  # parents of the stems

    def reserve(self, stem: str) -> None:
        """Mark a stem as used."""
        self._stems.add(stem)
        self._folders |= {str(parent) for parent in Path(stem).parents if parent.name}

    def stem(self, name: str) -> str:
        """Return a relative path without its suffix, altered if taken: ``a_png`` for a.png after a.jpg."""
        stem = os.path.splitext(name)[0]
        if self._is_taken(stem):
            stem = name.replace('.', '_')
        while self._is_taken(stem):
            stem += '_'
        self.reserve(stem)
        return stem

    def _is_taken(self, stem: str) -> bool:
        """Whether the stem is used, or its file would collide with a folder, or its folder with a file."""
        parents = [os.path.splitext(parent) for parent in Path(stem).parents if parent.name]
        return (
            stem in self._stems
            or any(f'{stem}{suffix}' in self._folders for suffix in _SUFFIXES)
            or any(suffix in _SUFFIXES and name in self._stems for name, suffix in parents)
        )
