"""Write the results of an analysis: tables for programs, and one HTML page that needs no network."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import supervision as sv
from PIL import Image

from ..datasets.images import read_picture
from ..utils.files import replacing
from ..utils.html import data_uri, render
from ..visualization.figures import new_figure, to_png
from ..visualization.palette import LINE_COLORS, OKABE_ITO
from ..visualization.text import label_annotator
from .label_maps import LabelMapResults
from .objects import ClassResult, Mistake, ObjectResults

#: Pictures of mistakes: least side of the shown region in the image, longer side of the picture, pixels.
_REGION, PICTURE = 160, 420
#: Colors of boxes in pictures of mistakes.
_MISTAKE, _TRUTH, _PREDICTION = (OKABE_ITO[name] for name in ('vermilion', 'green', 'blue'))


@dataclass(frozen=True)
class Picture:
    """A picture of the page: its ``data:`` URI and its caption."""

    uri: str
    caption: str


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
        Section('Precision and recall', chart=_precision_recall_chart(results.classes)),
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
            paths, pictures = _write_mistakes(mistakes, images, folder)
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
        predicted: folder with ``colours/`` of tools/predict.py, the colored label maps.
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
        picture = _image_and_prediction(images, predicted, name)
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


def _precision_recall_chart(classes: Sequence[ClassResult]) -> Picture:
    """Draw the curves of the ten classes with the most objects: more lines are hard to tell apart."""
    figure, axes = new_figure((8, 5))
    shown = sorted((c for c in classes if c.objects), key=lambda c: -c.objects)[:10]
    for i, c in enumerate(shown):
        axes.plot(
            [0, *c.curve[:, 2]],
            [c.curve[0, 1] if len(c.curve) else 0, *c.curve[:, 1]],
            label=f'{c.name} (AP50 {c.ap50:.2f})',
            linestyle=('-', '--', ':')[i // len(LINE_COLORS) % 3],
            color=LINE_COLORS[i % len(LINE_COLORS)],
        )
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if shown:
        axes.legend(loc='lower left', fontsize=8)
    return Picture(data_uri(to_png(figure, dpi=110)), 'precision over recall at IoU 0.5')


def confusion_chart(confusion: np.ndarray, names: Sequence[str]) -> Picture:
    """Draw the matrix, colored by the fraction of the row, with counts for up to 30 names."""
    side = min(24, max(6, 0.32 * len(names) + 2))
    figure, axes = new_figure((side, side * 0.85))
    fractions = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(fractions, cmap='cividis', vmin=0, vmax=1)
    font_size = 8 if len(names) < 40 else 5
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=font_size)
    axes.set_yticks(range(len(names)), names, fontsize=font_size)
    axes.set(xlabel='predicted', ylabel='true')
    for y, x in np.argwhere(confusion) if len(names) <= 30 else ():
        text = str(confusion[y, x]) if confusion.max() < 10**5 else f'{fractions[y, x]:.2f}'
        color = 'black' if fractions[y, x] > 0.5 else 'white'
        axes.text(x, y, text, ha='center', va='center', fontsize=7, color=color)
    return Picture(data_uri(to_png(figure, dpi=110)), 'confusion matrix')


def _write_mistakes(
    mistakes: Sequence[Mistake], images: Path, folder: Path
) -> tuple[list[Path], list[Picture]]:
    paths, pictures = [], []
    for i, mistake in enumerate(mistakes):
        picture = _close_up(images / mistake.image, mistake)
        if picture is None:
            continue
        path = folder / f'{i:02}_{mistake.label.replace("/", "_")}.jpg'
        jpeg = to_jpeg(picture, quality=90)
        with replacing(path) as temporary:
            temporary.write_bytes(jpeg)
        score = '' if mistake.score is None else f' {mistake.score:.2f}'
        paths.append(path)
        pictures.append(Picture(data_uri(jpeg, 'jpeg'), f'{mistake.label}{score}, {mistake.image}'))
    return paths, pictures


def to_jpeg(picture: Image.Image, quality: int) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, format='JPEG', quality=quality)
    return buffer.getvalue()


def _close_up(path: Path, mistake: Mistake) -> Image.Image | None:
    """Draw a mistake and what is around it; None if the box is outside the image."""
    pixels = read_picture(path)
    x, y, w, h = mistake.box
    half = max(w, h, _REGION) * 0.9
    x1, y1 = (int(max(0, center - half)) for center in (x + w / 2, y + h / 2))
    x2, y2 = int(min(pixels.width, x + w / 2 + half + 1)), int(min(pixels.height, y + h / 2 + half + 1))
    if x2 <= x1 or y2 <= y1:
        return None
    crop = pixels.crop((x1, y1, x2, y2))
    scale = PICTURE / max(crop.size)
    size = [max(1, round(side * scale)) for side in crop.size]
    scene = np.asarray(crop.resize(size, Image.Resampling.LANCZOS))[..., ::-1].copy()
    text = f'missed: {mistake.label}' if mistake.score is None else f'{mistake.label} {mistake.score:.2f}'
    true = [(box, name) for box, name, is_truth in mistake.others if is_truth]
    predicted = [(box, name) for box, name, is_truth in mistake.others if not is_truth]
    for objects, color in ((true, _TRUTH), (predicted, _PREDICTION), ([(mistake.box, text)], _MISTAKE)):
        boxes = np.array([box for box, _ in objects], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes = (boxes - [x1, y1, x1, y1]).astype(np.float32) * scale
        visible = (boxes[:, 2:] > 0).all(1) & (boxes[:, 0] < size[0]) & (boxes[:, 1] < size[1])
        if visible.any():
            labels = [label for (_, label), is_visible in zip(objects, visible, strict=True) if is_visible]
            scene = _draw_boxes(scene, boxes[visible], labels, color)
    return Image.fromarray(scene[..., ::-1])


def _draw_boxes(scene: np.ndarray, boxes: np.ndarray, labels: list[str], color: str) -> np.ndarray:
    objects = sv.Detections(boxes, class_id=np.zeros(len(boxes), int))
    color = sv.Color.from_hex(color)
    scene = sv.BoxAnnotator(color=color, thickness=2).annotate(scene, objects)
    annotator = label_annotator(labels, color, 0.4, text_padding=3, smart_position=True)
    return annotator.annotate(scene, objects, labels=labels)


def _image_and_prediction(images: Path, predicted: Path, name: str) -> Image.Image | None:
    """Show an image next to its predicted label map; None if either file is missing."""
    stem = images / Path(name).with_suffix('')
    suffixes = ('.jpg', '.jpeg', '.png')
    candidates = [p for p in sorted(stem.parent.glob(f'{stem.name}.*')) if p.suffix.lower() in suffixes]
    label_map = predicted / 'colours' / name
    if not candidates or not label_map.is_file():
        return None
    left, right = read_picture(candidates[0]), read_picture(label_map)
    width, height = PICTURE, max(1, round(PICTURE * right.height / right.width))
    sheet = Image.new('RGB', (2 * width + 6, height), 'white')
    sheet.paste(left.resize((width, height)), (0, 0))
    sheet.paste(right.resize((width, height), Image.Resampling.NEAREST), (width + 6, 0))
    return sheet
