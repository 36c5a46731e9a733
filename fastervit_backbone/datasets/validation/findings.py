"""What a check found, one line per rule and split."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..rules import IMAGE_RULES, Rule, Violation

#: Places named for each rule.
EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """A rule that is broken, everywhere in a split.

    Args:
        level: the rule's severity.
        split: its name, or '' for what is between splits.
        kind: the rule's id.
        message: the rule's meaning.
        count: number of places.
        examples: the first places.
    """

    level: str
    split: str
    kind: str
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()

    def line(self) -> str:
        """One line for the user."""
        where = f'{self.split}: ' if self.split else ''
        times = f'{self.count} x ' if self.count > 1 else ''
        more = ', ...' if self.count > len(self.examples) > 0 else ''
        examples = f' ({"; ".join(self.examples)}{more})' if self.examples else ''
        return f'{self.level}: {where}{times}{self.message}{examples}'


@dataclass
class Collector:
    """Violations of one split, grouped by rule as they come."""

    split: str
    _rules: dict[str, Rule] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, violation: Violation) -> None:
        """Count one."""
        rule, example = violation
        self._rules.setdefault(rule.id, rule)
        self._counts[rule.id] = self._counts.get(rule.id, 0) + 1
        examples = self._examples.setdefault(rule.id, [])
        if example and len(examples) < EXAMPLES:
            examples.append(example)

    def extend(self, violations: Iterable[Violation]) -> None:
        """Count several."""
        for violation in violations:
            self.add(violation)

    def findings(self) -> list[Finding]:
        """Return the findings, errors first."""
        found = [
            Finding(
                rule.severity, self.split, rule.id, rule.meaning, self._counts[i], tuple(self._examples[i])
            )
            for i, rule in self._rules.items()
        ]
        return sorted(found, key=lambda f: ('error', 'warning', 'note').index(f.level))


def overlap(splits: Sequence[tuple[str, Mapping[str, Sequence[str]]]]) -> list[Finding]:
    """Find the images that splits share.

    Args:
        splits: (name, content of a file -> its names) of each split.
    """
    found = Collector('')
    for i, (name, hashes) in enumerate(splits):
        for other_name, other_hashes in splits[i + 1 :]:
            for digest in sorted(set(hashes) & set(other_hashes)):
                example = f'{hashes[digest][0]} in {name} = {other_hashes[digest][0]} in {other_name}'
                found.add(Violation(IMAGE_RULES['splits-overlap'], example))
    return found.findings()


def repeated_content(hashes: Mapping[str, Sequence[str]]) -> Iterable[Violation]:
    """Find files with the same content; ``hashes``: content of a file -> its names."""
    for names in hashes.values():
        if len(set(names)) > 1:
            yield Violation(IMAGE_RULES['image-content-twice'], ' = '.join(sorted(set(names))[:3]))
