"""Pictures of a report: charts, close-ups of mistakes, label maps."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import supervision as sv
from PIL import Image

from ..datasets.images import read_picture
from ..utils.files import replacing
from ..utils.html import data_uri
from ..visualization.figures import new_figure, to_png
from ..visualization.palette import LINE_COLORS, OKABE_ITO
from ..visualization.text import label_annotator
from .objects import ClassResult, Mistake

#: Pictures of mistakes: least side of the shown region in the image, longer side of the picture, pixels.
_REGION, PICTURE = 160, 420


#: Colors of boxes in pictures of mistakes.
_MISTAKE, _TRUTH, _PREDICTION = (OKABE_ITO[name] for name in ('vermilion', 'green', 'blue'))


@dataclass(frozen=True)
class Picture:
    """A picture of the page: its ``data:`` URI and its caption."""

    uri: str
    caption: str


def precision_recall_chart(classes: Sequence[ClassResult]) -> Picture:
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


def write_mistakes(
    mistakes: Sequence[Mistake], images: Path, folder: Path
) -> tuple[list[Path], list[Picture]]:
    """Write a close-up of each mistake whose image is there; return the files and the page's pictures."""
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


def image_and_prediction(images: Path, predicted: Path, name: str) -> Image.Image | None:
    """Show an image next to its predicted label map; None if either file is missing."""
    stem = images / Path(name).with_suffix('')
    suffixes = ('.jpg', '.jpeg', '.png')
    candidates = [p for p in sorted(stem.parent.glob(f'{stem.name}.*')) if p.suffix.lower() in suffixes]
    # colours: of predictions by an earlier commit
    found = [path for f in ('colors', 'colours') if (path := predicted / f / name).is_file()]
    if not candidates or not found:
        return None
    label_map = found[0]
    left, right = read_picture(candidates[0]), read_picture(label_map)
    width, height = PICTURE, max(1, round(PICTURE * right.height / right.width))
    sheet = Image.new('RGB', (2 * width + 6, height), 'white')
    sheet.paste(left.resize((width, height)), (0, 0))
    sheet.paste(right.resize((width, height), Image.Resampling.NEAREST), (width + 6, 0))
    return sheet
