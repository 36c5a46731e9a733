"""What results are called, so that none takes another's place."""

import os
from pathlib import Path

from .sources import Source

#: Endings of what is written.
_WRITTEN = ('.jpg', '.png', '.mp4')


class Names:
    """Names that are given out once."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._stems: set[str] = set()
        self._folders: set[str] = set()  # above stems

    def take(self, stem: str, *names: str) -> None:
        """Note what is in use."""
        self._stems.add(stem)
        self._folders |= {str(p) for p in Path(stem).parents if p.name}
        self._names.update(names)

    def name(self, source: Source) -> str:
        """What the json calls a source: its name, with folders before where another has that."""
        name, above = source.name, [p.name for p in list(source.path.parents)[source.name.count('/') :]]
        while name in self._names and above:
            name = f'{above.pop(0)}/{name}'
        self._names.add(name)
        return name

    def stem(self, source: Source) -> str:
        """What a source's pictures are called: as it is; where another has that name, or a folder would be called as a file, otherwise."""
        stem = os.path.splitext(source.name)[0]
        if self._taken(stem):
            stem = source.name.replace('.', '_')
        while self._taken(stem):
            stem += '_'
        self.take(stem)
        return stem

    def _taken(self, stem: str) -> bool:
        """Whether a file of this name is there, would be a folder that is, or needs a file to be a folder."""
        above = [os.path.splitext(p) for p in Path(stem).parents if p.name]
        return (
            stem in self._stems
            or any(f'{stem}{suffix}' in self._folders for suffix in _WRITTEN)
            or any(suffix in _WRITTEN and name in self._stems for name, suffix in above)
        )
