"""Unique names for results, so that no result overwrites another."""

import os
from pathlib import Path

from .sources import Source

#: Suffixes of the result files.
_SUFFIXES = ('.jpg', '.png', '.mp4')


class ResultNames:
    """Hands out every name only once."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._stems: set[str] = set()
        self._folders: set[str] = set()  # parents of the stems

    def reserve(self, stem: str, *names: str) -> None:
        """Mark a stem and names as used."""
        self._stems.add(stem)
        self._folders |= {str(parent) for parent in Path(stem).parents if parent.name}
        self._names.update(names)

    def name(self, source: Source) -> str:
        """Return the source's name in the json, preceded by parent folders if the name is used already."""
        name = source.name
        parents = [parent.name for parent in list(source.path.parents)[name.count('/') :]]
        while name in self._names and parents:
            name = f'{parents.pop(0)}/{name}'
        self._names.add(name)
        return name

    def stem(self, source: Source) -> str:
        """Return the source's path for pictures, without suffix, altered if it is taken."""
        stem = os.path.splitext(source.name)[0]
        if self._is_taken(stem):
            stem = source.name.replace('.', '_')
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
