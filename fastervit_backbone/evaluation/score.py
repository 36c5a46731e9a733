"""The one scorer: average precision and intersection over union of analysis, export and INT8."""

import contextlib
import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

#: COCO's twelve figures, in the order of ``COCOeval.stats``.
FIGURES = ('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large')
FIGURES += ('AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large')


def score_objects(
    truth: COCO,
    found: Sequence[dict],
    kind: str,
    images: Sequence[int] | None = None,
    *,
    matches: bool = False,
) -> COCOeval:
    """Compute COCO's figures of detections.

    Args:
        truth: as :func:`~fastervit_backbone.evaluation.coco_files.read_truth` gives it.
        found: detections with ids of the truth; see :func:`completed`. Not changed.
        kind: 'bbox' or 'segm'.
        images: ids of the images that count; None: all.
        matches: keep what was matched in each image, which only pycocotools does; else faster-coco-eval
            computes the same figures in a tenth of the time, where it is installed.

    Returns:
        the evaluation; ``stats`` has :data:`FIGURES`, -1 where nothing has that size.
    """
    detections = completed(found, truth, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        results = truth.loadRes(detections) if detections else _without_detections(truth)
        scorer: COCOeval = _evaluation(matches)(truth, results, kind)
        if images is not None:
            scorer.params.imgIds = list(images)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def figures(scorer: COCOeval) -> dict[str, float]:
    """Return COCO's figures by name, nan where nothing has that size."""
    return {
        name: float(value) if value >= 0 else float('nan')
        for name, value in zip(FIGURES, scorer.stats[: len(FIGURES)], strict=True)
    }


def completed(found: Sequence[dict], truth: COCO, kind: str) -> list[dict]:
    """Return detections as pycocotools takes them: masks as run lengths, a box where there is only a mask.

    With ``kind`` 'segm' they have no boxes: pycocotools would take the areas of these for those of the masks.
    """
    complete = []
    for a in found:
        shape = a.get('segmentation')
        a = {key: value for key, value in a.items() if key != 'segmentation'}
        if kind == 'segm':
            a.pop('bbox', None)
            a['segmentation'] = run_lengths(shape, truth.imgs[a['image_id']])
        elif not a.get('bbox'):
            a['bbox'] = coco_mask.toBbox(run_lengths(shape, truth.imgs[a['image_id']])).tolist()
        complete.append(a)
    return complete


def run_lengths(shape: Any, image: dict) -> dict:
    """Return a mask as compressed run lengths, from polygons or either form of run lengths."""
    size = image['height'], image['width']
    if isinstance(shape, list):
        return coco_mask.merge(coco_mask.frPyObjects(shape, *size))
    return coco_mask.frPyObjects(shape, *size) if isinstance(shape['counts'], list) else shape


def _evaluation(matches: bool) -> type[COCOeval]:
    if matches or find_spec('faster_coco_eval') is None:
        return COCOeval
    from faster_coco_eval import COCOeval_faster

    return COCOeval_faster


def _without_detections(truth: COCO) -> COCO:
    empty = COCO()
    empty.dataset = truth.dataset | dict(annotations=[])
    empty.createIndex()
    return empty


def confusion_of(true: np.ndarray, found: np.ndarray, count: int) -> np.ndarray:
    """Count the pixels of a label map by their true class and the found one.

    Args:
        true: class indices; ``count`` and more are not evaluated.
        found: class indices; ``count`` and more are no class.
        count: of classes.

    Returns:
        (count + 1, count + 1): row true class, column found class, the last one for none.
    """
    evaluated = true < count
    pairs = true[evaluated].astype(np.int64) * (count + 1) + np.minimum(found[evaluated], count)
    return np.bincount(pairs, minlength=(count + 1) ** 2).reshape(count + 1, count + 1)


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """Return (n,) of a confusion matrix of :func:`confusion_of`, nan for a class that does not occur."""
    correct = np.diag(confusion)[:-1]
    return divide(correct, confusion[:-1].sum(1) + confusion[:, :-1].sum(0) - correct)


def divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, nan where ``whole`` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
