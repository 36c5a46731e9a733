"""Unique names for results, so that no result overwrites another."""

from ..inference.sources import Source
from ..utils.unique_names import UniqueNames


class ResultNames:
    """Hands out every name only once."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._stems = UniqueNames()

    def reserve(self, stem: str, *names: str) -> None:
        """Mark a stem and names as used."""
        self._stems.reserve(stem)
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
        return self._stems.stem(source.name)
