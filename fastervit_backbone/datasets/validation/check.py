"""Auditing behind tools/check_data.py."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ...utils.errors import UserError
from ...utils.files import check_file_writable, check_folder_writable, replacing
from .coco import audit, read_split
from .compare import class_table, compare_splits
from .findings import Collector, Finding, add_overlap
from .label_maps import LabelSplit, audit_labels, pixel_table
from .repair import write_repaired


def check_data(
    splits: Mapping[str, str],
    images: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    reduce_zero_label: bool = False,
    ignored: Sequence[int] = (),
    read_images: bool = True,
    fix: str | None = None,
    record: str | None = None,
    sheet: str | None = None,
) -> tuple[list[str], int]:
    """Look through COCO jsons or folders of label maps.

    Args:
        splits: name -> json or folder.
        images: one folder for all splits, or one for each, in their order.
        classes: of label maps.
        reduce_zero_label: of label maps.
        ignored: of label maps.
        read_images: of COCO jsons: open the image files.
        fix: folder for repaired jsons.
        record: json file for the findings.
        sheet: picture file for a contact sheet.

    Returns:
        lines for people, and how many kinds of errors there are.

    Raises:
        UserError: nothing to look at, or it cannot be read.
    """
    if not splits:
        raise UserError('nothing to check: give --train, --val or both')
    if len(images) not in (1, len(splits)):
        raise UserError(
            f'--images names {len(images)} folders for {len(splits)} splits: one for all, or one for each'
        )
    if fix is not None:
        check_folder_writable('--fix', fix)
    for option, path in (('--json', record), ('--sheet', sheet)):
        if path is not None:
            check_file_writable(option, path)
    if sheet is not None:
        from ...visualization.contact_sheet import check_sheet, write_sheet  # supervision takes seconds

        check_sheet(sheet)
    folders = [Path(images[min(i, len(images) - 1)]) for i in range(len(splits))]
    kinds = {Path(path).is_dir() for path in splits.values()}
    if len(kinds) > 1:
        raise UserError('some splits are folders, of label maps, and others are files: check them apart')
    said: list[str] = []
    if kinds == {True}:
        if fix is not None:
            raise UserError('--fix repairs COCO jsons: label maps are written again by what made them')
        maps = [
            LabelSplit(name, folder, Path(path))
            for (name, path), folder in zip(splits.items(), folders, strict=True)
        ]
        for split in maps:
            audit_labels(
                split,
                classes,
                reduce_zero_label=reduce_zero_label,
                ignored=ignored,
                progress=progress_bar(split.name),
            )
        said += pixel_table(maps, classes, reduce_zero_label)
        found = [f for split in maps for f in split.findings] + label_overlap(maps)
    else:
        jsons = [
            read_split(name, path, folder)
            for (name, path), folder in zip(splits.items(), folders, strict=True)
        ]
        for split in jsons:
            audit(split, read_images=read_images, progress=progress_bar(split.name))
        said += class_table(jsons)
        found = [f for split in jsons for f in split.findings] + compare_splits(jsons)
    said += ['', *(f.line() for f in found)]
    counts = {level: sum(f.level == level for f in found) for level in ('error', 'warning', 'note')}
    said.append(
        ', '.join(f'{n} kind{"s" * (n != 1)} of {level}' for level, n in counts.items() if n)
        or 'nothing to remark'
    )
    if fix is not None:
        said += write_repaired(jsons, fix)
    if sheet is not None:
        options = dict(reduce_zero_label=reduce_zero_label, ignored=ignored)
        try:
            said.append(
                f'contact sheet: {write_sheet(maps if kinds == {True} else jsons, sheet, classes, **options)}'
            )
        except UserError as error:
            said.append(f'no contact sheet: {error}')
    if record is not None:
        with replacing(Path(record)) as temporary:
            temporary.write_text(json.dumps([dataclasses.asdict(f) for f in found], indent=2) + '\n')
    return said, counts['error']


def label_overlap(splits: Sequence[LabelSplit]) -> list[Finding]:
    """The images that splits of label maps share."""
    found = Collector('')
    for i, a in enumerate(splits):
        for b in splits[i + 1 :]:
            add_overlap(found, a.name, a.hashes, b.name, b.hashes)
    return found.findings()


def progress_bar(name: str) -> Callable[[Iterable, int], Iterable]:
    """For an audit's ``progress``: a bar on stderr, where that is a terminal."""

    def wrap(results: Iterable, count: int) -> Iterable:
        return tqdm(results, total=count, desc=name, unit='image', disable=None, file=sys.stderr)

    return wrap
