"""What an audit found, and how it is said."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Places named for each kind of finding.
EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One kind of thing, everywhere in a split.

    Args:
        level: 'error' (training or evaluation would fail or be wrong), 'warning' (probably not meant) or 'note'.
        split: where, or '' for what is between splits.
        kind: short and stable, for programs: 'box-degenerate'.
        message: what and what to do about it.
        count: how often.
        examples: the first places.
    """

    level: str
    split: str
    kind: str
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()

    def line(self) -> str:
        """For people."""
        where = f'{self.split}: ' if self.split else ''
        times = f'{self.count} x ' if self.count > 1 else ''
        more = ', ...' if self.count > len(self.examples) > 0 else ''
        examples = f' ({"; ".join(self.examples)}{more})' if self.examples else ''
        return f'{self.level}: {where}{times}{self.message}{examples}'


@dataclass
class Collector:
    """Findings of one split, put together by kind as they come."""

    split: str
    _messages: dict[str, tuple[str, str]] = field(default_factory=dict)
    _counts: Counter = field(default_factory=Counter)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, level: str, kind: str, message: str, example: object = None) -> None:
        """Count one; the first message of a kind is kept."""
        self._messages.setdefault(kind, (level, message))
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if example is not None and len(examples) < EXAMPLES:
            examples.append(example if isinstance(example, str) else json.dumps(example))

    def findings(self) -> list[Finding]:
        """Errors first."""
        found = [
            Finding(level, self.split, kind, message, self._counts[kind], tuple(self._examples[kind]))
            for kind, (level, message) in self._messages.items()
        ]
        return sorted(found, key=lambda f: ('error', 'warning', 'note').index(f.level))


def add_overlap(
    found: Collector,
    one: str,
    hashes: Mapping[str, Sequence[str]],
    other: str,
    others: Mapping[str, Sequence[str]],
) -> None:
    """Note the images that two splits share; ``hashes``: content of a file -> its names."""
    for digest in sorted(set(hashes) & set(others)):
        message = f'images that are in {one} and in {other}: scores on them mean nothing'
        found.add('error', 'splits-overlap', message, f'{hashes[digest][0]} = {others[digest][0]}')
