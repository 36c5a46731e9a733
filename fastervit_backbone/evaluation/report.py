"""Write the results of an analysis: tables for programs, and one HTML page that needs no network."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..utils.files import replacing
from ..utils.html import data_uri, render
from .label_maps import LabelMapResults
from .objects import ObjectResults
from .report_pictures import (
    Picture,
    confusion_chart,
    image_and_prediction,
    precision_recall_chart,
    to_jpeg,
    write_mistakes,
)


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        heading: title; empty for none.
        text: introduction.
        table: rows of cells, the header first.
        chart: shown over the whole width.
        pictures: shown next to each other.
    """

    heading: str
    text: str = ''
    table: Sequence[Sequence[str]] = ()
    chart: Picture | None = None
    pictures: Sequence[Picture] = ()


def write_object_report(results: ObjectResults, images: Path | None, out: Path, title: str) -> list[Path]:
    """Write ``report.html``, ``figures.json``, ``classes.csv``, ``confusion.csv`` and pictures of mistakes.

    Args:
        results: results to report.
        images: folder of the ground truth's images; None: no pictures.
        out: folder to write to.
        title: title of the page.

    Returns:
        the files that were written.
    """
    header = ['class', 'objects', 'AP', 'AP50', 'precision', 'recall', 'F1', 'best threshold']
    rows = [
        [c.name, c.objects, c.ap, c.ap50, c.precision, c.recall, c.f1, c.threshold] for c in results.classes
    ]
    names = [*(c.name for c in results.classes), 'background']
    geometry = 'masks' if results.kind == 'segm' else 'boxes'
    text = f'Matched by {geometry}; precision, recall and F1 at IoU 0.5 and the best threshold.'
    confusion_text = (
        'Rows: true class; columns: predicted class. '
        'Background row: false positives; background column: misses.'
    )
    sections = [
        Section('', text, format_table(['metric', 'value'], results.summary.items())),
        Section('Classes', table=format_table(header, rows)),
        Section('Precision and recall', chart=precision_recall_chart(results.classes)),
        Section('Confusion', confusion_text, chart=confusion_chart(results.confusion, names)),
    ]
    written = []
    for heading, mistakes, folder in (
        ('Worst false positives', results.false_positives, out / 'false_positives'),
        ('Largest misses', results.misses, out / 'misses'),
    ):
        text, pictures = '', []
        if not mistakes:
            text = 'None.'
        elif images is None:
            text = 'No pictures: the folder of images was not given.'
        else:
            paths, pictures = write_mistakes(mistakes, images, folder)
            written += paths
        sections.append(Section(heading, text, pictures=pictures))
    figures = dict(kind=results.kind, summary=results.summary)
    return write_report(out, title, sections, figures, header, rows, results.confusion, names) + written


def write_label_map_report(
    results: LabelMapResults, predicted: Path, images: Path | None, out: Path, title: str
) -> list[Path]:
    """Write the files of :func:`write_object_report` for label maps, with pictures of the lowest mean IoU.

    Args:
        results: results to report.
        predicted: folder with ``colors/`` of fastervit predict, the colored label maps.
        images: folder of the images; None: no pictures.
        out: folder to write to.
        title: title of the page.

    Returns:
        the files that were written.
    """
    header = ['class', 'IoU', 'recall (Acc)', 'precision', 'F1 (Dice)']
    columns = (results.names, results.iou, results.recall, results.precision, results.f1)
    rows = list(zip(*columns, strict=True))
    names = [*results.names, 'none']
    summary = {
        'mIoU': np.nanmean(results.iou),
        'mAcc': np.nanmean(results.recall),
        'pixel accuracy': results.accuracy,
    }
    pictures = []
    for name, _, iou in results.images[:8] if images is not None else ():
        picture = image_and_prediction(images, predicted, name)
        if picture is not None:
            jpeg = to_jpeg(picture, quality=88)
            caption = f'{name}: mean IoU {iou:.3f}; image, prediction'
            pictures.append(Picture(data_uri(jpeg, 'jpeg'), caption))
    confusion_text = 'Rows: true class; columns: predicted class; colors: fraction of the row.'
    worst = format_table(['image', 'pixel accuracy', 'mean IoU'], results.images[:24])
    sections = [
        Section('', table=format_table(['metric', 'value'], summary.items())),
        Section('Classes', table=format_table(header, rows)),
        Section('Confusion', confusion_text, chart=confusion_chart(results.confusion, names)),
        Section('Images with the lowest mean IoU', table=worst, pictures=pictures),
    ]
    return write_report(out, title, sections, dict(summary=summary), header, rows, results.confusion, names)


def write_report(
    out: Path,
    title: str,
    sections: Sequence[Section],
    figures: dict,
    header: Sequence[str],
    rows: Sequence[Sequence],
    confusion: np.ndarray,
    names: Sequence[str],
) -> list[Path]:
    """Write a report's page, json and tables.

    Args:
        out: folder to write to.
        title: of the page.
        sections: of the page.
        figures: of the json, beside the classes'.
        header: names of the columns of ``rows``.
        rows: metrics of each class.
        confusion: counts.
        names: of the rows and columns of ``confusion``.

    Returns:
        the files that were written.
    """
    figures = figures | dict(classes=[dict(zip(header, row, strict=True)) for row in rows])
    counts = [[name, *map(int, row)] for name, row in zip(names, confusion, strict=True)]
    texts = {
        'report.html': render('report.html.j2', title=title, sections=sections),
        'figures.json': json.dumps(_without_nan(figures), indent=2) + '\n',
        'classes.csv': _csv([header, *rows]),
        'confusion.csv': _csv([['true \\ predicted', *names], *counts]),
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in texts]


def _without_nan(value: object) -> object:
    """Replace nan by None in nested dicts and lists, for JSON (null) and CSV (an empty cell)."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    return value


def _csv(rows: Sequence[Sequence]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(_without_nan(rows))
    return buffer.getvalue()


def format_table(header: Sequence[str], rows: Sequence[Sequence]) -> list[list[str]]:
    """Format the cells of a table; nan is empty."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return '' if math.isnan(value) else f'{value:.3f}'
        return str(value)

    return [list(header), *([cell(value) for value in row] for row in rows)]
