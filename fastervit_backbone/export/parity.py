"""The gate: an exported file against the model itself; a file that differs is rejected."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from ..inference.exported import ExportedModel
from ..inference.exported_arrays import resize_channels
from ..structures.prediction import INSTANCE_OFFSET, Prediction
from ..utils.errors import UserError
from ..utils.progress import progress_bar
from .images import Images, score
from .reference import Reference

#: Objects below this score are not compared.
LEAST_SCORE = 0.05


@dataclass(frozen=True)
class Tolerance:
    """What a file may differ by.

    Attributes:
        arrays: largest difference of maps, logits and probabilities, as a fraction of the largest value.
        score: largest difference of the scores of an object and its counterpart.
        iou: least IoU of their boxes, and of their masks.
        unmatched: fraction of the objects without a counterpart.
        pixels: fraction of the pixels with another class.
        metric: AP, mIoU or top-1 below the model's; where that is measured and :attr:`metric_only` is set,
            nothing else counts.
        metric_only: see above.
    """

    arrays: float
    score: float
    iou: float
    unmatched: float
    pixels: float
    metric: float
    metric_only: bool = False


TOLERANCES = dict(
    float32=Tolerance(1e-4, score=1e-3, iou=0.98, unmatched=0.01, pixels=0.001, metric=0.002),
    float16=Tolerance(5e-2, score=0.05, iou=0.9, unmatched=0.05, pixels=0.01, metric=0.005),
    int8=Tolerance(0.5, score=0.2, iou=0.8, unmatched=0.25, pixels=0.1, metric=0.01, metric_only=True),
)


@dataclass
class Parity:
    """Outcome of a comparison.

    Attributes:
        precision: 'float32', 'float16' or 'int8'.
        images: number and kind of the images.
        arrays: name -> largest difference, as a fraction of the largest value.
        objects: number of the model's objects at or above :data:`LEAST_SCORE`.
        unmatched: objects of either side without a counterpart: of the same class, with box, mask and score
            within the tolerance.
        least_iou: of the matched boxes.
        score_difference: largest, of the matched objects.
        mask_iou: least, of the matched masks; None without masks.
        pixels: fraction of the pixels with another class.
        metrics: name -> (of the model, of the file).
        failures: what is over the tolerance; empty: the file is accepted.
        float_layers: of an int8 file, the layers in float, and why.
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
    float_layers: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Describe the outcome for the user."""
        parts = [f'{name} differ by {value:.1e} of the largest value' for name, value in self.arrays.items()]
        if self.objects or self.unmatched or not (parts or self.metrics):
            text = (
                f'{self.objects} objects, {self.unmatched} without counterpart, least box IoU '
                f'{self.least_iou:.4f}, scores within {self.score_difference:.1e}'
            )
            parts.append(text + ('' if self.mask_iou is None else f', least mask IoU {self.mask_iou:.3f}'))
        if self.pixels or 'logits' in self.arrays:
            parts.append(f'{self.pixels:.4%} of the pixels have another class')
        parts += [f'{name} {old:.4f} -> {new:.4f}' for name, (old, new) in self.metrics.items()]
        lines = [f'parity on {self.images}: {part}' for part in parts]
        if self.float_layers:
            lines.append(f'in float: {", ".join(self.float_layers)}')
        return lines


def compare(exported: ExportedModel, reference: Reference, images: Images, precision: str) -> Parity:
    """Compare a file with the model on images, in the file's batches.

    Raises:
        UserError: an image cannot be prepared; it is named.
    """
    parity = Parity(precision, f'{len(images)} {images.kind}')
    tolerance = TOLERANCES[precision]
    largest: dict[str, list[float]] = {}
    pairs: list[tuple[Prediction, Prediction]] = []
    counts = np.zeros(2, np.int64)  # pixels with another class, all pixels
    # images of any size do not fit into one batch
    step = (exported.batch or 1) if exported.size is not None else 1
    starts = range(0, len(images), step)
    for start in progress_bar(starts, len(starts), 'comparing'):
        indices = range(start, min(start + step, len(images)))
        group = images.read(indices)
        prepared = [
            _prepare(exported, image, images.paths[i]) for i, image in zip(indices, group, strict=True)
        ]
        results = exported.run(np.stack([canvas for canvas, _ in prepared]))
        for j, (pixels, (canvas, inner)) in enumerate(zip(group, prepared, strict=True)):
            outputs = {name: value[j] for name, value in results.items()}
            own = None if exported.size is None else reference.canvas(pixels, exported.size)
            if own is not None and (own.shape != canvas.shape or not np.array_equal(own, canvas)):
                parity.failures = [_other_pixels(own, canvas)]
                return parity
            expected = reference.arrays(canvas)
            _compare_arrays(outputs, expected, largest)
            if exported.task == 'backbone':
                continue
            size = (pixels.shape[0], pixels.shape[1])
            pair = (reference.predict(canvas, inner, size), exported.convert(outputs, inner, size, 0.0, None))
            pairs.append(pair)
            if exported.task == 'segmentation':
                logits = expected['logits']
                full = resize_channels(logits, outputs['label_map'].shape, exported.info['align_corners'])
                counts += _count(full.argmax(0), outputs['label_map'])
                counts += _count(pair[0].label_map, pair[1].label_map)
            elif exported.task == 'detection':
                _match(parity, *pair, tolerance)
                if pair[0].panoptic is not None and pair[1].panoptic is not None:
                    counts += _count_segments(pair[0].panoptic, pair[1].panoptic)
    parity.arrays = {
        name: difference / top if top else difference for name, (difference, top) in largest.items()
    }
    parity.pixels = float(counts[0] / counts[1]) if counts[1] else 0.0
    if images.truth is not None and pairs:
        old, new = ([pair[i] for pair in pairs] for i in (0, 1))
        scores = score(old, images, exported.categories), score(new, images, exported.categories)
        parity.metrics = {name: (value, scores[1].get(name, 0.0)) for name, value in scores[0].items()}
    parity.failures = _failures(parity, tolerance)
    if exported.task == 'detection' and not parity.objects and not parity.metrics and precision != 'float32':
        parity.failures.append(
            f'the model finds nothing above {LEAST_SCORE} in these images, so that nothing was compared: '
            'name others with --verify'
        )
    return parity


def _other_pixels(own: np.ndarray, canvas: np.ndarray) -> str:
    difference = 'size'
    if own.shape == canvas.shape:
        difference = f'pixels, up to {np.abs(own.astype(int) - canvas).max()} of 255'
    return f"the file prepares images in another way than the config's test pipeline (other {difference})"


def _prepare(exported: ExportedModel, image: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    try:
        return exported.prepare(image)
    except UserError as error:
        raise UserError(f'--verify {path}: {error}') from error


def _compare_arrays(
    outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], largest: dict[str, list[float]]
) -> None:
    """Raise the largest difference and the largest value of each name."""
    for name, value in expected.items():
        entry = largest.setdefault(name, [0.0, 0.0])
        difference = np.abs(outputs[name].astype(np.float64) - value).max()
        entry[0] = np.inf if np.isnan(difference) else max(entry[0], float(difference))
        entry[1] = max(entry[1], float(np.abs(value).max()))


def _count(expected: np.ndarray | None, found: np.ndarray | None) -> np.ndarray:
    assert expected is not None and found is not None
    return np.array([(expected != found).sum(), expected.size])


def _count_segments(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Count the pixels outside the segments' largest common parts, whatever their numbers, and all pixels.

    Args:
        expected: (H, W), see Prediction.panoptic.
        found: likewise.
    """
    pairs, sizes = np.unique(np.stack([expected.ravel(), found.ravel()], 1), axis=0, return_counts=True)
    sizes = sizes * (pairs[:, 0] % INSTANCE_OFFSET == pairs[:, 1] % INSTANCE_OFFSET)
    common = [
        sum(sizes[pairs[:, side] == segment].max() for segment in np.unique(pairs[:, side]))
        for side in (0, 1)
    ]
    return np.array([expected.size - min(common), expected.size])


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


def _match(parity: Parity, expected: Prediction, found: Prediction, tolerance: Tolerance) -> None:
    """Match the objects of an image one to one, best score first, and record what differs."""
    free = np.ones(len(found), bool)
    sure = expected.scores >= LEAST_SCORE
    # whatever is near the limit on one side only is no difference
    limit = LEAST_SCORE + tolerance.score
    parity.objects += int(sure.sum())
    for i in np.argsort(-expected.scores, kind='stable'):
        candidates = free & (found.labels == expected.labels[i])
        candidates &= np.abs(found.scores - expected.scores[i]) <= tolerance.score
        index = np.flatnonzero(candidates)
        ious = _iou(expected.boxes[i], found.boxes[index])
        mask_iou = None
        if len(index):
            j = index[ious.argmax()]
            mask_iou = _mask_iou(expected, i, found, j)
        if not len(index) or ious.max() < tolerance.iou or _differs(mask_iou, tolerance.iou - 0.05):
            parity.unmatched += int(expected.scores[i] >= limit)
            continue
        free[j] = False
        if sure[i]:
            parity.least_iou = min(parity.least_iou, float(ious.max()))
            difference = abs(float(found.scores[j] - expected.scores[i]))
            parity.score_difference = max(parity.score_difference, difference)
            if mask_iou is not None:
                parity.mask_iou = min(1.0 if parity.mask_iou is None else parity.mask_iou, mask_iou)
    parity.unmatched += int((found.scores[free] >= limit).sum())


def _differs(mask_iou: float | None, least: float) -> bool:
    return mask_iou is not None and mask_iou < least


def _mask_iou(expected: Prediction, i: int, found: Prediction, j: int) -> float | None:
    """Return the IoU of two masks, where a pixel more or less in small ones does not count; None without."""
    if expected.masks is None or found.masks is None:
        return None
    areas = [int(coco_mask.area(mask)) for mask in (expected.masks[i], found.masks[j])]
    iou = float(coco_mask.iou([expected.masks[i]], [found.masks[j]], [0])[0, 0])
    union = sum(areas) / (1 + iou)
    return 1.0 if union * (1 - iou) <= 2 else iou


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = sides.clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    union = (box[2:] - box[:2]).prod() + areas - inter
    return np.where(union > 0, inter / np.maximum(union, 1e-9), (np.abs(boxes - box) < 0.5).all(1))
