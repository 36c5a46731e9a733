"""The gate: an exported file against the model itself; a file that differs is rejected."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from pycocotools import mask as coco_mask

from ..apis.exported import ExportedModel
from ..apis.session import open_session
from ..structures.prediction import Prediction
from .graph import Graph
from .images import Images, score
from .reference import Reference, layers_of

#: Objects below this score are not compared.
LEAST_SCORE = 0.05


@dataclass(frozen=True)
class Tolerance:
    """What a file may differ by.

    Attributes:
        arrays: largest difference of maps, logits and probabilities, as a fraction of the largest value.
        unmatched: fraction of the objects without a counterpart.
        pixels: fraction of the pixels with another class.
        metric: AP, mIoU or top-1 below the model's; where that is measured and :attr:`metric_only` is set,
            nothing else counts.
        metric_only: see above.
    """

    arrays: float
    unmatched: float
    pixels: float
    metric: float
    metric_only: bool = False


TOLERANCES = dict(
    float32=Tolerance(1e-4, 0.005, 0.001, 0.002),
    float16=Tolerance(2e-2, 0.05, 0.01, 0.005),
    int8=Tolerance(0.5, 0.25, 0.1, 0.01, metric_only=True),
)


@dataclass
class Parity:
    """Outcome of a comparison.

    Attributes:
        precision: 'float32', 'float16' or 'int8'.
        images: number and kind of the images.
        arrays: name -> largest difference, as a fraction of the largest value.
        objects: number of the model's objects at or above :data:`LEAST_SCORE`.
        unmatched: objects of either side without a counterpart: same class, IoU at least 0.9, score within
            0.02 (0.2 for int8).
        least_iou: of the matched boxes.
        score_difference: largest, of the matched objects.
        mask_iou: least, of the matched masks; None without masks.
        pixels: fraction of the pixels with another class.
        metrics: name -> (of the model, of the file).
        failures: what is over the tolerance; empty: the file is accepted.
    """

    precision: str
    images: str
    arrays: dict[str, float] = field(default_factory=dict)
    objects: int = 0
    unmatched: int = 0
    least_iou: float = 1.0
    score_difference: float = 0.0
    mask_iou: float | None = None
    pixels: float = 0.0
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Describe the outcome for the user."""
        parts = [f'{name} differ by {value:.1e} of the largest value' for name, value in self.arrays.items()]
        if self.objects or self.unmatched:
            text = (
                f'{self.objects} objects, {self.unmatched} without counterpart, least box IoU '
                f'{self.least_iou:.4f}, scores within {self.score_difference:.1e}'
            )
            parts.append(text + ('' if self.mask_iou is None else f', least mask IoU {self.mask_iou:.3f}'))
        if self.pixels or 'logits' in self.arrays:
            parts.append(f'{self.pixels:.4%} of the pixels have another class')
        parts += [f'{name} {old:.4f} -> {new:.4f}' for name, (old, new) in self.metrics.items()]
        return [f'parity on {self.images}: {part}' for part in parts]


def compare(exported: ExportedModel, reference: Reference, images: Images, precision: str) -> Parity:
    """Compare a file with the model on images."""
    parity = Parity(precision, f'{len(images.pixels)} {images.kind}')
    tolerance = TOLERANCES[precision]
    largest: dict[str, list[float]] = {}
    pairs: list[tuple[Prediction, Prediction]] = []
    wrong = total = 0
    for pixels in images.pixels:
        canvas, inner = exported.prepare(pixels)
        outputs = {name: value[0] for name, value in exported.run(canvas[None]).items()}
        for name, expected in reference.arrays(canvas).items():
            entry = largest.setdefault(name, [0.0, 0.0])
            difference = np.abs(outputs[name].astype(np.float64) - expected).max()
            entry[0] = np.inf if np.isnan(difference) else max(entry[0], float(difference))
            entry[1] = max(entry[1], float(np.abs(expected).max()))
        if exported.task == 'backbone':
            continue
        size = (pixels.shape[0], pixels.shape[1])
        pair = (reference.predict(canvas, inner, size), exported.convert(outputs, inner, size, 0.0, None))
        pairs.append(pair)
        if pair[0].label_map is not None and pair[1].label_map is not None:
            wrong, total = (
                wrong + int((pair[0].label_map != pair[1].label_map).sum()),
                total + size[0] * size[1],
            )
        elif not pair[0].classification:
            _match(parity, *pair)
    parity.arrays = {
        name: difference / top if top else difference for name, (difference, top) in largest.items()
    }
    parity.pixels = wrong / total if total else 0.0
    if images.truth is not None and pairs:
        old, new = ([pair[i] for pair in pairs] for i in (0, 1))
        scores = score(old, images, exported.categories), score(new, images, exported.categories)
        parity.metrics = {name: (value, scores[1][name]) for name, value in scores[0].items()}
    parity.failures = _failures(parity, tolerance)
    return parity


def _failures(parity: Parity, tolerance: Tolerance) -> list[str]:
    failures = [
        f'{name} {old:.4f} -> {new:.4f} (at most {tolerance.metric} less)'
        for name, (old, new) in parity.metrics.items()
        if not old - new <= tolerance.metric
    ]
    if tolerance.metric_only and parity.metrics:
        return failures
    failures += [
        f'{name} differ by {value:.1e} of the largest value (at most {tolerance.arrays:g})'
        for name, value in parity.arrays.items()
        if not value <= tolerance.arrays
    ]
    if parity.unmatched > tolerance.unmatched * max(parity.objects, 1):
        failures.append(
            f'{parity.unmatched} objects without counterpart, of {parity.objects} '
            f'(at most {tolerance.unmatched:.1%})'
        )
    if not parity.pixels <= tolerance.pixels:
        failures.append(
            f'{parity.pixels:.2%} of the pixels have another class (at most {tolerance.pixels:.1%})'
        )
    return failures


def _match(parity: Parity, expected: Prediction, found: Prediction) -> None:
    """Match the objects of an image one to one, best score first, and record what differs."""
    limit = 0.2 if parity.precision == 'int8' else 0.02
    free = np.ones(len(found), bool)
    order = np.argsort(-expected.scores, kind='stable')
    # whatever is near the limit on one side only is no difference
    sure = expected.scores >= LEAST_SCORE
    parity.objects += int(sure.sum())
    for i in order:
        candidates = free & (found.labels == expected.labels[i])
        candidates &= np.abs(found.scores - expected.scores[i]) <= limit
        index = np.flatnonzero(candidates)
        ious = _iou(expected.boxes[i], found.boxes[index])
        if not len(index) or ious.max() < 0.9:
            parity.unmatched += int(expected.scores[i] >= LEAST_SCORE + limit)
            continue
        j = index[ious.argmax()]
        free[j] = False
        if not sure[i]:
            continue
        parity.least_iou = min(parity.least_iou, float(ious.max()))
        difference = abs(float(found.scores[j] - expected.scores[i]))
        parity.score_difference = max(parity.score_difference, difference)
        if expected.masks is not None and found.masks is not None:
            iou = float(coco_mask.iou([expected.masks[i]], [found.masks[j]], [0])[0, 0])
            empty = not coco_mask.area(expected.masks[i]) and not coco_mask.area(found.masks[j])
            parity.mask_iou = min(1.0 if parity.mask_iou is None else parity.mask_iou, 1.0 if empty else iou)
    parity.unmatched += int((found.scores[free] >= LEAST_SCORE + limit).sum())


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = sides.clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    union = (box[2:] - box[:2]).prod() + areas - inter
    return np.where(union > 0, inter / np.maximum(union, 1e-9), (np.abs(boxes - box) < 0.5).all(1))


def first_difference(
    exported: ExportedModel, graph: Graph, layers: Mapping[str, str], images: Images, tolerance: float
) -> str | None:
    """Name the first layer whose result in the file differs from the graph's.

    Args:
        exported: the file.
        graph: that it was exported from.
        layers: name of a module -> name of its result in the file.
        images: the first is used.
        tolerance: largest difference, as a fraction of the largest value.

    Returns:
        the layer and its difference; None if all agree.
    """
    canvas, _ = exported.prepare(images.pixels[0])
    batch = np.concatenate([canvas[None]] * (exported.batch or 1))
    expected = layers_of(graph, torch.from_numpy(batch), list(layers))
    names = [name for name in layers if name in expected]
    found = _inner_results(exported, batch, [layers[name] for name in names])
    for name in names:
        value = found.get(layers[name])
        if value is None or value.shape != expected[name].shape:
            continue
        top = float(np.abs(expected[name]).max()) or 1.0
        difference = float(np.abs(value.astype(np.float64) - expected[name]).max()) / top
        if not difference <= tolerance:
            return f'{name.removeprefix("model.")} (by {difference:.1e} of its largest value)'
    return None


def _inner_results(exported: ExportedModel, batch: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    session = open_session(exported.path, extra_outputs=list(dict.fromkeys(names)))
    results: Callable[[np.ndarray], list[np.ndarray]] = session.run
    values = results(batch.astype(exported.info['dtype']))
    return dict(zip(session.outputs, values, strict=True))
