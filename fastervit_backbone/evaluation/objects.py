"""Compare detections with ground truth, class by class, from pycocotools' own matches."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import supervision as sv
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..utils.errors import UserError
from .coco_files import match_to_truth
from .score import completed, figures, score_objects

#: Lowest intersection over union of a match, for everything but AP over thresholds.
IOU = 0.5


@dataclass(frozen=True)
class ClassResult:
    """Results of a class; metrics are 0..1, nan without objects of it.

    Args:
        name: class name.
        objects: number of objects in the ground truth, without crowds.
        ap: average precision over IoU 0.50:0.95.
        ap50: at IoU 0.5.
        precision: at ``threshold``, IoU 0.5.
        recall: at ``threshold``, IoU 0.5.
        f1: the highest over all thresholds.
        threshold: the score that gives the highest F1.
        curve: (points, 3): score, precision and recall, by descending score.
    """

    name: str
    objects: int
    ap: float
    ap50: float
    precision: float
    recall: float
    f1: float
    threshold: float
    curve: np.ndarray


@dataclass(frozen=True)
class Mistake:
    """A false positive or a missed object.

    Args:
        image: file name.
        box: x, y, width, height in pixels.
        label: name of the predicted or missed class.
        score: score of a false positive; None for a miss.
        others: other objects in the image: (box, class name, whether it is ground truth).
    """

    image: str
    box: tuple[float, ...]
    label: str
    score: float | None
    others: list[tuple[tuple[float, ...], str, bool]]


@dataclass(frozen=True)
class ObjectResults:
    """Results of one file of detections.

    Args:
        kind: 'bbox' or 'segm', the geometry that was matched.
        summary: pycocotools' twelve metrics by name; nan if there are no objects of that size.
        classes: one result per class.
        confusion: (n + 1, n + 1), counts: row true class, column predicted class, last "background".
        false_positives: highest score first.
        misses: largest first.
        notes: lines for the user about what was compared.
    """

    kind: str
    summary: dict[str, float]
    classes: list[ClassResult]
    confusion: np.ndarray
    false_positives: list[Mistake]
    misses: list[Mistake]
    notes: list[str]


def analyze_objects(
    detections: dict, truth: COCO, *, kind: str = 'bbox', threshold: float = 0.3, worst: int = 24
) -> ObjectResults:
    """Match detections to the ground truth and compute all metrics.

    Args:
        detections: as returned by :func:`~fastervit_backbone.evaluation.coco_files.read_detections`.
        truth: ground truth.
        kind: 'bbox' or 'segm'.
        threshold: lowest score of detections in the confusion matrix and of false positives, 0..1.
        worst: number of false positives, and of misses, that are kept.

    Raises:
        UserError: an option is out of range, or the files do not belong together or lack scores or masks.
    """
    if not 0 <= threshold <= 1 or worst < 0:
        raise UserError(f'--threshold {threshold}, --worst {worst}: expected 0 to 1, and 0 or more')
    found, notes = match_to_truth(detections, truth, kind)
    categories = truth.loadCats(sorted(truth.getCatIds()))  # the order of COCOeval
    scorer = score_objects(truth, found, kind, matches=True)
    found = [a | b for a, b in zip(found, completed(found, truth, 'bbox'), strict=True)]
    precision = scorer.eval['precision'][..., 0, -1]  # (IoU, recall, class)
    names = {c['id']: c['name'] for c in categories}
    mistakes = _mistakes(scorer, truth, names, threshold)
    false_positives = [m for m in mistakes if m.score is not None]
    misses = [m for m in mistakes if m.score is None]
    return ObjectResults(
        kind,
        figures(scorer),
        [_class_result(scorer, precision[:, :, k], category) for k, category in enumerate(categories)],
        confusion_matrix(found, truth, threshold),
        sorted(false_positives, key=lambda m: -m.score)[:worst],
        sorted(misses, key=lambda m: -m.box[2] * m.box[3])[:worst],
        notes,
    )


def _class_result(scorer: COCOeval, precision: np.ndarray, category: dict) -> ClassResult:
    """Summarize a class; ``precision``: (IoU, recall) as accumulated."""
    scores, hits, objects = [], [], 0
    for matches in _matches(scorer, category['id']):
        counted = ~matches['dtIgnore'][0].astype(bool)
        scores.append(np.array(matches['dtScores'])[counted])
        hits.append(matches['dtMatches'][0][counted] > 0)
        objects += int((np.array(matches['gtIgnore']) == 0).sum())
    scores, hits = (np.concatenate(v) if v else np.zeros(0) for v in (scores, hits))
    order = np.argsort(-scores, kind='mergesort')
    scores, true_positives = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.diff(scores, append=-1.0))  # a threshold keeps equal scores together
    scores, true_positives, kept = scores[last], true_positives[last], last + 1
    curve = np.stack([scores, true_positives / np.maximum(kept, 1), true_positives / max(objects, 1)], 1)
    nan = float('nan')
    if not objects:
        return ClassResult(category['name'], 0, nan, nan, nan, nan, nan, nan, curve[:0])
    ap, ap50 = (float(p[p > -1].mean()) if (p > -1).any() else nan for p in (precision, precision[0]))
    if not len(curve):
        return ClassResult(category['name'], objects, ap, ap50, 0.0, 0.0, 0.0, nan, curve)
    f1 = 2 * curve[:, 1] * curve[:, 2] / np.maximum(curve[:, 1] + curve[:, 2], 1e-12)
    best = int(f1.argmax())
    best_score, best_precision, best_recall = map(float, curve[best])
    return ClassResult(
        category['name'], objects, ap, ap50, best_precision, best_recall, float(f1[best]), best_score, curve
    )


def _matches(scorer: COCOeval, category_id: int) -> list[dict]:
    """Return the matches of a class in each image, for objects of any size."""
    images, areas = len(scorer.params.imgIds), len(scorer.params.areaRng)
    start = scorer.params.catIds.index(category_id) * areas * images
    return [matches for matches in scorer.evalImgs[start : start + images] if matches is not None]


def confusion_matrix(found: Sequence[dict], truth: COCO, threshold: float) -> np.ndarray:
    """Count how boxes are classified, with supervision's matching at IoU 0.5.

    Args:
        found: detections with the ids of the ground truth.
        truth: ground truth. Crowds are left out, and so are detections that only a crowd of their class
            covers, as in COCO's evaluation.
        threshold: lowest score of detections that count.

    Returns:
        (n + 1, n + 1), counts: row true class, column predicted class, the last of both "background".
    """
    ids = sorted(truth.getCatIds())
    by_image = defaultdict(list)
    for a in found:
        by_image[a['image_id']].append(a)
    predicted = [_to_supervision(_without_crowds(by_image[i], truth.imgToAnns[i]), ids) for i in truth.imgs]
    true = [_to_supervision([a for a in truth.imgToAnns[i] if not a.get('iscrowd')], ids) for i in truth.imgs]
    matrix = sv.ConfusionMatrix.from_detections(
        predicted,
        true,
        [c['name'] for c in truth.loadCats(ids)],
        conf_threshold=threshold,
        iou_threshold=IOU,
    )
    return matrix.matrix.astype(int)


def _without_crowds(found: Sequence[dict], true: Sequence[dict]) -> list[dict]:
    """Leave out detections that lie on a crowd of their class and match no object."""
    crowds, objects = ([a for a in true if bool(a.get('iscrowd')) == crowd] for crowd in (True, False))
    if not crowds or not found:
        return list(found)
    boxes = [a['bbox'] for a in found]
    on_crowd = coco_mask.iou(boxes, [a['bbox'] for a in crowds], [1] * len(crowds)) >= IOU
    on_crowd &= np.array([[a['category_id'] == c['category_id'] for c in crowds] for a in found])
    is_ignored = on_crowd.any(1)
    if objects:
        is_ignored &= ~(coco_mask.iou(boxes, [a['bbox'] for a in objects], [0] * len(objects)) >= IOU).any(1)
    return [a for a, ignored in zip(found, is_ignored, strict=True) if not ignored]


def _to_supervision(entries: Sequence[dict], ids: Sequence[int]) -> sv.Detections:
    boxes = np.array([a['bbox'] for a in entries], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([a.get('score', 1.0) for a in entries], np.float32)
    labels = np.array([ids.index(a['category_id']) for a in entries], int)
    return sv.Detections(boxes, confidence=scores, class_id=labels)


def _mistakes(scorer: COCOeval, truth: COCO, names: dict[int, str], threshold: float) -> list[Mistake]:
    """List the false positives that score ``threshold`` or more, and the missed objects, at IoU 0.5."""
    found = [a for a in scorer.cocoDt.dataset['annotations'] if a['score'] >= threshold]
    objects = defaultdict(list)
    for entries, is_truth in ((truth.dataset['annotations'], True), (found, False)):
        for a in entries:
            objects[a['image_id']].append((tuple(a['bbox']), names[a['category_id']], is_truth))
    mistakes = []
    for category_id, name in names.items():
        for matches in _matches(scorer, category_id):
            scores = np.array(matches['dtScores'])
            unmatched = (matches['dtMatches'][0] == 0) & ~matches['dtIgnore'][0].astype(bool)
            missed = (matches['gtMatches'][0] == 0) & (np.array(matches['gtIgnore']) == 0)
            wrong = [matches['dtIds'][i] for i in np.flatnonzero(unmatched & (scores >= threshold))]
            boxes = [(scorer.cocoDt.anns[i]['bbox'], scorer.cocoDt.anns[i]['score']) for i in wrong]
            boxes += [(truth.anns[matches['gtIds'][i]]['bbox'], None) for i in np.flatnonzero(missed)]
            image = truth.imgs[matches['image_id']]['file_name']
            for box, score in boxes:
                others = [other for other in objects[matches['image_id']] if other[0] != tuple(box)]
                mistakes.append(Mistake(image, tuple(box), name, score, others))
    return mistakes
