"""The check behind tools/check_data.py."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...utils.errors import UserError
from ...utils.files import check_file_writable, check_folder_writable, replacing
from .coco import CocoSplit, check_coco_split, read_split
from .compare import class_table, compare_splits
from .discover import Discovered, discover
from .findings import Finding, overlap
from .folders import FolderSplit, check_folder_split, compare_folders
from .label_maps import LabelMapSplit, LabelValues, check_label_map_split, pixel_table
from .repair import write_repaired
from .voc import VocSplit, check_voc_split


def check_data(
    splits: Mapping[str, str],
    images: Sequence[str],
    *,
    data: str | None = None,
    classes: Sequence[str] | None = None,
    reduce_zero_label: bool = False,
    ignored: Sequence[int] = (),
    read_images: bool = True,
    fix: str | None = None,
    record: str | None = None,
    sheet: str | None = None,
) -> tuple[list[str], int]:
    """Check COCO jsons, folders of label maps, a VOC folder, or images in one folder per class.

    Args:
        splits: name -> json or folder; empty where ``data`` is given.
        images: one folder for all splits, or one for each, in their order; may be empty with ``data``.
        data: one json or folder in which the splits are found, instead of ``splits``.
        classes: of label maps.
        reduce_zero_label: of label maps.
        ignored: of label maps.
        read_images: open the image files; those of label maps are always opened.
        fix: folder for repaired jsons.
        record: json file for the findings.
        sheet: picture file for a contact sheet.

    Returns:
        lines for the user, and the number of findings that are errors.

    Raises:
        UserError: nothing to check, or it cannot be read.
    """
    found = _find(splits, images, data)
    _check_options(found, fix, record, sheet)
    values = LabelValues(classes, reduce_zero_label, ignored)
    checked, table, findings = _check_splits(found, values, read_images)
    lines = table if data is None else [found.line(), *table]
    lines += ['', *(finding.line() for finding in findings)]
    counts = {level: sum(f.level == level for f in findings) for level in ('error', 'warning', 'note')}
    lines.append(
        ', '.join(f'{n} kind{"s" * (n != 1)} of {level}' for level, n in counts.items() if n)
        or 'no problems found'
    )
    if fix is not None:
        lines += write_repaired(checked, fix)
    if sheet is not None:
        from ...visualization.contact_sheet import write_sheet  # supervision takes seconds to import

        try:
            path = write_sheet(checked, sheet, classes, reduce_zero_label=reduce_zero_label, ignored=ignored)
            lines.append(f'contact sheet: {path}')
        except UserError as error:
            lines.append(f'no contact sheet: {error}')
    if record is not None:
        with replacing(Path(record)) as temporary:
            temporary.write_text(json.dumps([dataclasses.asdict(f) for f in findings], indent=2) + '\n')
    return lines, counts['error']


def _check_options(found: Discovered, fix: str | None, record: str | None, sheet: str | None) -> None:
    """Raise UserError where an output cannot be written or made of this kind of data."""
    if fix is not None:
        check_folder_writable('--fix', fix)
        if found.kind != 'coco':
            raise UserError(
                f'--fix repairs COCO jsons, these are {found.words()}: '
                'write them again with the tool that made them'
            )
    for option, path in (('--json', record), ('--sheet', sheet)):
        if path is not None:
            check_file_writable(option, path)
    if sheet is not None:
        from ...visualization.contact_sheet import check_sheet  # supervision takes seconds to import

        check_sheet(sheet)
        if found.kind in ('voc', 'folders'):
            raise UserError(
                f'--sheet draws COCO jsons and label maps, these are {found.words()}: leave it out'
            )


def _check_splits(
    found: Discovered, values: LabelValues, read_images: bool
) -> tuple[Sequence, list[str], list[Finding]]:
    """Return the checked splits, a table of what they hold, and the findings."""
    findings: list[Finding] = []
    checked: Sequence[CocoSplit | LabelMapSplit | VocSplit | FolderSplit]
    if found.kind == 'labels':
        checked = [LabelMapSplit(name, folder, path) for name, (path, folder) in found.splits.items()]
        for split in checked:
            findings += check_label_map_split(split, values)
        table = pixel_table(checked, values)
    elif found.kind == 'voc':
        checked = [VocSplit(name, folder, path) for name, (path, folder) in found.splits.items()]
        for split in checked:
            findings += check_voc_split(split, read_images=read_images)
        table = class_table(checked)
    elif found.kind == 'folders':
        checked = [FolderSplit(name, folder) for name, (_, folder) in found.splits.items()]
        for split in checked:
            findings += check_folder_split(split, read_images=read_images)
        table = class_table(checked)
        findings += compare_folders(checked)
    else:
        checked = [
            read_split(name, path, folder, found.contents.get(path))
            for name, (path, folder) in found.splits.items()
        ]
        for split in checked:
            findings += check_coco_split(split, read_images=read_images)
        table = class_table(checked)
        findings += compare_splits(checked)
    return checked, table, findings + overlap([(split.name, split.hashes) for split in checked])


def _find(splits: Mapping[str, str], images: Sequence[str], data: str | None) -> Discovered:
    """Settle what is checked, from named splits or from one place."""
    if data is not None:
        if splits:
            raise UserError(f'{data} and --{next(iter(splits))}: give one place, or name the splits')
        return discover(data, images)
    if not splits:
        raise UserError('nothing to check: give a json or folder, or --train, --val or both')
    if not images and all(Path(path).is_dir() for path in splits.values()):
        return Discovered('folders', {name: (None, Path(path)) for name, path in splits.items()})
    if not images:
        raise UserError(f'--{next(iter(splits))} needs the folder of its images: --images DIR')
    if len(images) not in (1, len(splits)):
        raise UserError(
            f'--images names {len(images)} folders for {len(splits)} splits: one for all, or one for each'
        )
    if len({Path(path).is_dir() for path in splits.values()}) > 1:
        raise UserError('some splits are folders of label maps and others are files: check them separately')
    folders = [Path(images[min(i, len(images) - 1)]) for i in range(len(splits))]
    kind = 'labels' if Path(next(iter(splits.values()))).is_dir() else 'coco'
    named = {name: (Path(path), folder) for (name, path), folder in zip(splits.items(), folders, strict=True)}
    return Discovered(kind, named)
