"""The check behind fastervit check-data."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .datasets.dataset import Dataset, compare, named_splits, open_dataset
from .datasets.validation.compare import class_table
from .datasets.validation.label_maps import LabelValues, pixel_table
from .datasets.validation.repair import write_repaired
from .utils.errors import UserError
from .utils.files import check_file_writable, check_folder_writable, replacing


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
    """Check a data set in any layout of :func:`~fastervit_backbone.datasets.dataset.open_dataset`.

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
    dataset = _open(splits, images, data)
    _check_options(dataset, fix, record, sheet)
    values = LabelValues(classes or dataset.classes, reduce_zero_label, ignored)
    checked = list(dataset.splits.values())
    findings = [f for split in checked for f in split.check('all' if read_images else 'exists', values)]
    findings += compare(dataset, checked)
    table = pixel_table(checked, values) if dataset.kind == 'labels' else class_table(checked)
    lines = ([] if data is None else [dataset.line()]) + [f'note: {note}' for note in dataset.notes()] + table
    lines += ['', *(finding.line() for finding in findings)]
    counts = {level: sum(f.level == level for f in findings) for level in ('error', 'warning', 'note')}
    lines.append(
        ', '.join(f'{n} kind{"s" * (n != 1)} of {level}' for level, n in counts.items() if n)
        or 'no problems found'
    )
    if fix is not None:
        lines += write_repaired(checked, fix)
    if sheet is not None:
        lines.append(_write_sheet(checked, sheet, values))
    if record is not None:
        with replacing(Path(record)) as temporary:
            temporary.write_text(json.dumps([dataclasses.asdict(f) for f in findings], indent=2) + '\n')
    return lines, counts['error']


def _write_sheet(splits: list, sheet: str, values: LabelValues) -> str:
    from .visualization.contact_sheet import write_sheet  # supervision takes seconds to import

    zero = dict(reduce_zero_label=values.reduce_zero_label, ignored=values.ignored)
    try:
        return f'contact sheet: {write_sheet(splits, sheet, values.classes, **zero)}'
    except UserError as error:
        return f'no contact sheet: {error}'


def _open(splits: Mapping[str, str], images: Sequence[str], data: str | None) -> Dataset:
    """Open named splits, or what is in one place."""
    if data is not None:
        if splits:
            raise UserError(f'{data} and --{next(iter(splits))}: give one place, or name the splits')
        return open_dataset(data, images)
    if not splits:
        raise UserError('nothing to check: give a json or folder, or --train, --val or both')
    return named_splits(splits, images)


def _check_options(dataset: Dataset, fix: str | None, record: str | None, sheet: str | None) -> None:
    """Raise UserError where an output cannot be written or made of this kind of data."""
    if fix is not None:
        check_folder_writable('--fix', fix)
        if dataset.kind != 'coco':
            raise UserError(
                f'--fix repairs objects, these are {dataset.layout}: write them again with the tool that '
                'made them'
            )
    for option, path in (('--json', record), ('--sheet', sheet)):
        if path is not None:
            check_file_writable(option, path)
    if sheet is not None:
        from .visualization.contact_sheet import check_sheet  # supervision takes seconds to import

        check_sheet(sheet)
        if dataset.kind == 'folders':
            raise UserError(f'--sheet draws objects and label maps, these are {dataset.layout}: leave it out')
