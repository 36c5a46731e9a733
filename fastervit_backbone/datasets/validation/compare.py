"""COCO splits beside each other: classes, ids, images that are in two, and a table of all."""

import difflib
from collections.abc import Sequence

from .coco import Split, dicts
from .findings import Collector, Finding, add_overlap


def compare_splits(splits: Sequence[Split]) -> list[Finding]:
    """What is between splits: classes and ids that differ, images that are in both."""
    found = []
    for i, a in enumerate(splits):
        for b in splits[i + 1 :]:
            found += _compare(a, b)
    return found


def _compare(a: Split, b: Split) -> list[Finding]:
    found = Collector('')
    ours, theirs = (
        {str(c['name']): c['id'] for c in dicts(s.content['categories']) if 'name' in c and 'id' in c}
        for s in (a, b)
    )
    for one, other, here, there in ((a, b, ours, theirs), (b, a, theirs, ours)):
        for name in sorted(set(here) - set(there)):
            near = difflib.get_close_matches(name, sorted(set(there) - set(here)) or sorted(there), n=1)
            meant = f', whose nearest is {near[0]!r}' if near else ''
            found.add(
                'error',
                'classes-differ',
                'classes that one split has and the other has not',
                f'{name!r} of {one.name}, not of {other.name}{meant}',
            )
    for name in sorted(set(ours) & set(theirs)):
        if ours[name] != theirs[name]:
            found.add(
                'warning',
                'ids-differ',
                f'classes with one id in {a.name} and another in {b.name}',
                f'{name}: {ours[name]} and {theirs[name]}',
            )
    add_overlap(found, a.name, a.hashes, b.name, b.hashes)
    return found.findings()


def class_table(splits: Sequence[Split]) -> list[str]:
    """Objects of every class in every split, aligned."""
    counts = [split.counts() for split in splits]
    names = list(dict.fromkeys(name for c in counts for name in c))
    width = max([5, *map(len, names)])
    lines = [f'{"class":<{width}}' + ''.join(f'{s.name:>10}' for s in splits)]
    return lines + [f'{name:<{width}}' + ''.join(f'{c.get(name, 0):>10}' for c in counts) for name in names]
