"""What an analysis leaves: tables for programs, and one page that opens without a network."""

import base64
import csv
import html
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import supervision as sv
from PIL import Image, ImageOps

from ..datasets.images import open_image
from ..utils.files import replacing
from .label_maps import LabelMapResults
from .objects import Mistake, ObjectResults

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #1b1b1b }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left } .wide { overflow-x: auto }
.pictures { display: flex; flex-wrap: wrap; gap: 1em } figure { margin: 0; max-width: 20em } img { max-width: 100% }
figcaption { font-size: .85em; color: #444; overflow-wrap: anywhere }
"""
#: Pixels of the shorter side of a mistake's picture, at least, and of its longer side, at most.
_CLOSE, _LARGE = 160, 420


def write_object_report(results: ObjectResults, images: Path | None, out: Path, title: str) -> list[Path]:
    """``report.html``, ``figures.json``, ``classes.csv``, ``confusion.csv`` and, where the images are at hand, pictures of mistakes.

    Args:
        results: what to show.
        images: folder of the ground truth's images, or None.
        out: folder.
        title: of the page.

    Returns:
        what was written.
    """
    header = ['class', 'objects', 'AP', 'AP50', 'precision', 'recall', 'F1', 'best threshold']
    rows = [
        [c.name, c.objects, c.ap, c.ap50, c.precision, c.recall, c.f1, c.threshold] for c in results.classes
    ]
    names = [c.name for c in results.classes] + ['background']
    body = f'<p>Matched by {"masks" if results.kind == "segm" else "boxes"}; precision, recall and F1 at IoU 0.5 and the best threshold.</p>'
    body += _table(['figure', 'value'], [[k, v] for k, v in results.summary.items()])
    body += '<h2>Classes</h2>' + _table(header, rows)
    body += '<h2>Precision and recall</h2>' + _embed(
        _plot(lambda axes: _curves(axes, results)), 'precision over recall at IoU 0.5'
    )
    body += '<h2>Confusion</h2><p>Rows: true class; columns: predicted. Background row: invented objects; background column: missed ones.</p>'
    body += _embed(
        _plot(lambda axes: _matrix(axes, results.confusion, names), len(names)), 'confusion matrix'
    )
    written = []
    for heading, mistakes, folder in (
        ('Worst false positives', results.false_positives, 'false_positives'),
        ('Largest misses', results.misses, 'misses'),
    ):
        body += f'<h2>{heading}</h2>' + ('' if mistakes else '<p>None.</p>')
        if not images and mistakes:
            body += '<p>No pictures: the folder of images was not given.</p>'
        figures = []
        for i, mistake in enumerate(mistakes if images else ()):
            picture = _close_up(images / mistake.image, mistake)
            if picture is None:
                continue
            path = out / folder / f'{i:02}_{mistake.label.replace("/", "_")}.jpg'
            with replacing(path) as temporary:
                picture.save(temporary, format='JPEG', quality=90)
            written.append(path)
            score = '' if mistake.score is None else f' {mistake.score:.2f}'
            figures.append(_embed(path.read_bytes(), f'{mistake.label}{score}, {mistake.image}', 'jpeg'))
        body += f'<div class="pictures">{"".join(figures)}</div>'
    figures = dict(
        kind=results.kind,
        summary=results.summary,
        classes=[dict(zip(header, row, strict=True)) for row in rows],
    )
    return _write(out, title, body, figures, header, rows, results.confusion, names) + written


def write_label_map_report(
    results: LabelMapResults, predicted: Path, truth: Path, images: Path | None, out: Path, title: str
) -> list[Path]:
    """As :func:`write_object_report`, for label maps; pictures show the images with the lowest mean IoU.

    Args:
        results: what to show.
        predicted: folder of colour pictures, ``colours/`` of tools/predict.py, or None.
        truth: folder of true label maps.
        images: folder of the images, or None.
        out: folder.
        title: of the page.
    """
    header = ['class', 'IoU', 'recall (Acc)', 'precision', 'F1 (Dice)']
    rows = [
        list(row)
        for row in zip(results.names, results.iou, results.recall, results.precision, results.f1, strict=True)
    ]
    with np.errstate(all='ignore'):
        summary = {
            'mIoU': float(np.nanmean(results.iou)),
            'mAcc': float(np.nanmean(results.recall)),
            'pixel accuracy': results.accuracy,
        }
    body = (
        _table(['figure', 'value'], [[k, v] for k, v in summary.items()])
        + '<h2>Classes</h2>'
        + _table(header, rows)
    )
    names = [*results.names, 'none']
    body += '<h2>Confusion</h2><p>Rows: true class; columns: predicted; parts of a row.</p>'
    body += _embed(
        _plot(lambda axes: _matrix(axes, results.confusion, names), len(names)), 'confusion matrix'
    )
    body += '<h2>Images, the worst first</h2>' + _table(
        ['image', 'pixel accuracy', 'mean IoU'], results.images[:24]
    )
    if images is not None:
        figures = []
        for path, _, iou in results.images[:8]:
            picture = _beside(images, predicted, path, results.names)
            if picture is not None:
                buffer = io.BytesIO()
                picture.save(buffer, format='JPEG', quality=88)
                figures.append(
                    _embed(buffer.getvalue(), f'{path}: mean IoU {iou:.3f}; image, prediction', 'jpeg')
                )
        body += f'<div class="pictures">{"".join(figures)}</div>'
    figures = dict(summary=summary, classes=[dict(zip(header, row, strict=True)) for row in rows])
    return _write(out, title, body, figures, header, rows, results.confusion, names)


def _write(
    out: Path,
    title: str,
    body: str,
    figures: dict,
    header: list[str],
    rows: list[list],
    confusion: np.ndarray,
    names: list[str],
) -> list[Path]:
    page = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head>'
    page += f'<body><h1>{html.escape(title)}</h1>{body}</body></html>'
    matrix = [[name, *map(int, row)] for name, row in zip(names, confusion, strict=True)]
    texts = {
        'report.html': page,
        'figures.json': json.dumps(_plain(figures), indent=2) + '\n',
        'classes.csv': _csv([header, *rows]),
        'confusion.csv': _csv([['true \\ predicted', *names], *matrix]),
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text)
    return [out / name for name in texts]


def _plain(value: object) -> object:
    """For JSON, which has no nan."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return value


def _csv(rows: Sequence[Sequence]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(
        ['' if isinstance(v, float | np.floating) and math.isnan(v) else v for v in row] for row in rows
    )
    return buffer.getvalue()


def _table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    def cell(value: object) -> str:
        if isinstance(value, float | np.floating):
            return '' if math.isnan(value) else f'{value:.3f}'
        return html.escape(str(value))

    lines = [''.join(f'<th>{html.escape(h)}</th>' for h in header)]
    lines += [''.join(f'<td>{cell(v)}</td>' for v in row) for row in rows]
    return '<div class="wide"><table>' + ''.join(f'<tr>{line}</tr>' for line in lines) + '</table></div>'


def _embed(picture: bytes, caption: str, kind: str = 'png') -> str:
    data, words = base64.b64encode(picture).decode(), html.escape(caption)
    style = ' style="max-width: 100%"' if kind == 'png' else ''
    return f'<figure{style}><img alt="{words}" src="data:image/{kind};base64,{data}"><figcaption>{words}</figcaption></figure>'


def _plot(draw: Callable, count: int = 0) -> bytes:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    side = min(24, max(6, 0.32 * count + 2))
    figure, axes = plt.subplots(figsize=(side, side * 0.85) if count else (8, 5), layout='constrained')
    draw(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def _curves(axes: object, results: ObjectResults) -> None:
    """Of the classes with most objects: more than ten lines are not told apart."""
    shown = sorted((c for c in results.classes if c.objects), key=lambda c: -c.objects)[:10]
    for i, c in enumerate(shown):
        recall, precision = [0, *c.curve[:, 2]], [c.curve[0, 1] if len(c.curve) else 0, *c.curve[:, 1]]
        axes.plot(
            recall,
            precision,
            label=f'{c.name} (AP50 {c.ap50:.2f})',
            linestyle=('-', '--', ':')[i // 7 % 3],
            color=_LINES[i % 7],
        )
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if shown:
        axes.legend(loc='lower left', fontsize=8)


_LINES = ('#E69F00', '#56B4E9', '#009E73', '#B8A800', '#0072B2', '#D55E00', '#CC79A7')


def _matrix(axes: object, confusion: np.ndarray, names: Sequence[str]) -> None:
    parts = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(parts, cmap='cividis', vmin=0, vmax=1)
    small = dict(fontsize=8 if len(names) < 40 else 5)
    axes.set_xticks(range(len(names)), names, rotation=90, **small)
    axes.set_yticks(range(len(names)), names, **small)
    axes.set(xlabel='predicted', ylabel='true')
    if len(names) <= 30:
        for (y, x), part in np.ndenumerate(parts):
            if confusion[y, x]:
                words = str(confusion[y, x]) if confusion.max() < 10**5 else f'{part:.2f}'
                axes.text(
                    x,
                    y,
                    words,
                    ha='center',
                    va='center',
                    fontsize=7,
                    color='black' if part > 0.5 else 'white',
                )


def _close_up(path: Path, mistake: Mistake) -> Image.Image | None:
    """The mistake's surroundings: it in vermilion, the truth green, other predictions blue; None for a box outside of its image."""
    with open_image(path) as image:
        picture = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    H, W = picture.shape[:2]
    x, y, w, h = mistake.box
    half = max(w, h, _CLOSE) * 0.9
    x1, y1, x2, y2 = (
        int(v)
        for v in (
            max(0, x + w / 2 - half),
            max(0, y + h / 2 - half),
            min(W, x + w / 2 + half + 1),
            min(H, y + h / 2 + half + 1),
        )
    )
    if x2 <= x1 or y2 <= y1:
        return None
    crop = Image.fromarray(picture[y1:y2, x1:x2])
    scale = _LARGE / max(crop.size)
    scene = np.asarray(crop.resize([max(1, round(s * scale)) for s in crop.size], Image.Resampling.LANCZOS))[
        ..., ::-1
    ].copy()
    missed = mistake.score is None
    layers = [
        (
            [b for b, _, real in mistake.others if real],
            '#009E73',
            [n for _, n, real in mistake.others if real],
        )
    ]
    layers.append(
        (
            [b for b, _, real in mistake.others if not real],
            '#0072B2',
            [n for _, n, real in mistake.others if not real],
        )
    )
    layers.append(
        (
            [mistake.box],
            '#D55E00',
            [f'missed: {mistake.label}' if missed else f'{mistake.label} {mistake.score:.2f}'],
        )
    )
    for boxes, colour, words in layers:
        corners = (
            np.array([(a - x1, b - y1, a + c - x1, b + d - y1) for a, b, c, d in boxes], np.float32).reshape(
                -1, 4
            )
            * scale
        )
        seen = (
            (corners[:, 2:] > 0).all(1) & (corners[:, 0] < scene.shape[1]) & (corners[:, 1] < scene.shape[0])
        )
        if seen.any():
            found = sv.Detections(corners[seen], class_id=np.zeros(seen.sum(), int))
            paint = sv.Color.from_hex(colour)
            scene = sv.BoxAnnotator(color=paint, thickness=2).annotate(scene, found)
            labels = [word for word, s in zip(words, seen, strict=True) if s]
            scene = sv.LabelAnnotator(
                color=paint, text_scale=0.4, text_padding=3, smart_position=True
            ).annotate(scene, found, labels=labels)
    return Image.fromarray(scene[..., ::-1])


def _beside(images: Path, predicted: Path, name: str, names: Sequence[str]) -> Image.Image | None:
    """Image and predicted label map side by side; None where there is no image of that name."""
    stem = images / Path(name).with_suffix('')
    found = next(
        (
            p
            for p in sorted(stem.parent.glob(f'{stem.name}.*'))
            if p.suffix.lower() in ('.jpg', '.jpeg', '.png')
        ),
        None,
    )
    colours = predicted / 'colours' / name
    if found is None or not colours.is_file():
        return None
    with open_image(found) as image, open_image(colours) as colour:
        left, right = ImageOps.exif_transpose(image).convert('RGB'), colour.convert('RGB')
        size = (_LARGE, max(1, round(_LARGE * right.height / right.width)))
        sheet = Image.new('RGB', (2 * size[0] + 6, size[1]), 'white')
        sheet.paste(left.resize(size), (0, 0))
        sheet.paste(right.resize(size, Image.Resampling.NEAREST), (size[0] + 6, 0))
    return sheet
