"""Compare splits with each other: classes, ids, a table of all."""

import itertools
from collections.abc import Iterable, Sequence

from ...utils.suggest import did_you_mean
from ..rules import COCO_RULES, Violation
from .coco import CocoSplit
from .coco_entries import is_category
from .findings import Collector, Finding
from .folders import FolderSplit


def compare_splits(splits: Sequence[CocoSplit]) -> list[Finding]:
    """Find classes and ids that differ between splits."""
    found = Collector('')
    ids = {s.name: {c['name']: c['id'] for c in s.content['categories'] if is_category(c)} for s in splits}
    for one, other in itertools.permutations(ids, 2):
        for name in sorted(set(ids[one]) - set(ids[other])):
            unmatched = sorted(set(ids[other]) - set(ids[one])) or sorted(ids[other])
            example = f'{name!r} of {one}, not of {other}{did_you_mean(name, unmatched)}'
            found.add(Violation(COCO_RULES['classes-differ'], example))
    for one, other in itertools.combinations(ids, 2):
        for name in sorted(set(ids[one]) & set(ids[other])):
            if ids[one][name] != ids[other][name]:
                example = f'{name}: {ids[one][name]} in {one}, {ids[other][name]} in {other}'
                found.add(Violation(COCO_RULES['ids-differ'], example))
    return found.findings()


def class_table(splits: Sequence[CocoSplit | FolderSplit]) -> list[str]:
    """Tabulate the objects, or images, of every class in every split."""
    counts = [split.counts() for split in splits]
    names = list(dict.fromkeys(name for c in counts for name in c))
    width = max([5, *map(len, names)])
    columns = [max(10, len(split.name) + 2) for split in splits]

    def row(title: str, cells: Iterable[object]) -> str:
        return f'{title:<{width}}' + ''.join(f'{cell:>{w}}' for cell, w in zip(cells, columns, strict=True))

    return [row('class', (s.name for s in splits)), *(row(n, (c.get(n, 0) for c in counts)) for n in names)]
