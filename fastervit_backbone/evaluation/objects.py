"""Detections against ground truth, class by class: pycocotools' own matching, read in more detail than its summary."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import supervision as sv
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..utils.errors import UserError
from .coco_files import match_to_truth

#: Least intersection over union of a match, for everything but AP over thresholds.
IOU = 0.5


@dataclass(frozen=True)
class ClassResult:
    """A class: figures 0..1, nan where there are no objects of it.

    Args:
        name: of the class.
        objects: in the ground truth, crowds left out.
        ap: average precision over IoU 0.50:0.95.
        ap50: at IoU 0.5.
        precision: at ``threshold``, IoU 0.5.
        recall: likewise.
        f1: the best over all thresholds.
        threshold: the score that gives it.
        curve: (points, 3): score, precision and recall, from the highest score down.
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
    """A false positive, or an object that was missed.

    Args:
        image: file name.
        box: x, y, width, height in pixels.
        label: name of the class, predicted or missed.
        score: of a false positive; None for a miss.
        others: what else is there: (box, name, whether it is ground truth).
    """

    image: str
    box: tuple[float, ...]
    label: str
    score: float | None
    others: list[tuple[tuple[float, ...], str, bool]]


@dataclass(frozen=True)
class ObjectResults:
    """Everything about one file of detections.

    Args:
        kind: 'bbox' or 'segm', what was matched.
        summary: pycocotools' twelve figures by name; nan where there are no objects of that size.
        classes: one each.
        confusion: (n + 1, n + 1), counts: row true class, column predicted, the last of both "background".
        false_positives: the surest ones first.
        misses: the largest ones first.
        notes: lines for people about what was compared.
    """

    kind: str
    summary: dict[str, float]
    classes: list[ClassResult]
    confusion: np.ndarray
    false_positives: list[Mistake]
    misses: list[Mistake]
    notes: list[str]


_SUMMARY = ('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large')
_SUMMARY += ('AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large')


def analyze_objects(
    detections: dict, truth: COCO, *, kind: str = 'bbox', threshold: float = 0.3, worst: int = 24
) -> ObjectResults:
    """Compare.

    Args:
        detections: as :func:`~fastervit_backbone.evaluation.coco_files.read_detections` gives them.
        truth: ground truth.
        kind: 'bbox' or 'segm'.
        threshold: score from which detections count in the confusion matrix and as false positives.
        worst: mistakes kept of each sort.

    Raises:
        UserError: they do not belong together, or have no scores or masks.
    """
    if not 0 <= threshold <= 1 or worst < 0:
        raise UserError(f'--threshold {threshold}, --worst {worst}: a score from 0 to 1, and a number from 0')
    found, notes = match_to_truth(detections, truth, kind)
    matched = found
    if kind == 'segm':  # or pycocotools takes the boxes' areas for the masks'
        found = [{k: v for k, v in a.items() if k != 'bbox'} for a in found]
    categories = truth.loadCats(sorted(truth.getCatIds()))  # the order of COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        scorer = COCOeval(truth, truth.loadRes(found) if found else _nothing(truth), kind)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    precision = scorer.eval['precision'][..., 0, -1]  # (IoU, recall, class)
    classes = [_class_result(scorer, precision[:, :, k], category) for k, category in enumerate(categories)]
    names = {c['id']: c['name'] for c in categories}
    mistakes = _mistakes(scorer, truth, scorer.cocoDt.dataset['annotations'], names, threshold)
    return ObjectResults(
        kind,
        {name: float(v) if v >= 0 else float('nan') for name, v in zip(_SUMMARY, scorer.stats, strict=True)},
        classes,
        confusion_matrix(matched, truth, threshold),
        sorted((m for m in mistakes if m.score is not None), key=lambda m: -m.score)[:worst],
        sorted((m for m in mistakes if m.score is None), key=lambda m: -m.box[2] * m.box[3])[:worst],
        notes,
    )


def _nothing(truth: COCO) -> COCO:
    empty = COCO()
    empty.dataset = dict(
        images=truth.dataset['images'], categories=truth.dataset['categories'], annotations=[]
    )
    empty.createIndex()
    return empty


def _class_result(scorer: COCOeval, precision: np.ndarray, category: dict) -> ClassResult:
    """precision: (IoU, recall) as accumulated."""
    scores, hits, objects = [], [], 0
    for evaluated in _all_areas(scorer, category['id']):
        kept = ~evaluated['dtIgnore'][0].astype(bool)
        scores.append(np.array(evaluated['dtScores'])[kept])
        hits.append(evaluated['dtMatches'][0][kept] > 0)
        objects += int((np.array(evaluated['gtIgnore']) == 0).sum())
    scores, hits = (np.concatenate(v) if v else np.zeros(0) for v in (scores, hits))
    order = np.argsort(-scores, kind='mergesort')
    scores, true = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.diff(scores, append=-1.0))  # of equal scores, all or none are taken
    scores, true, taken = scores[last], true[last], last + 1
    curve = np.stack([scores, true / np.maximum(taken, 1), true / max(objects, 1)], 1)
    nan = float('nan')
    if not objects:
        return ClassResult(category['name'], 0, nan, nan, nan, nan, nan, nan, curve[:0])
    ap, ap50 = (float(p[p > -1].mean()) if (p > -1).any() else nan for p in (precision, precision[0]))
    if not len(curve):
        return ClassResult(category['name'], objects, ap, ap50, 0.0, 0.0, 0.0, nan, curve)
    f1 = 2 * curve[:, 1] * curve[:, 2] / np.maximum(curve[:, 1] + curve[:, 2], 1e-12)
    best = int(f1.argmax())
    return ClassResult(
        category['name'],
        objects,
        ap,
        ap50,
        *map(float, curve[best, 1:]),
        float(f1[best]),
        float(curve[best, 0]),
        curve,
    )


def _all_areas(scorer: COCOeval, category_id: int) -> list[dict]:
    """What was matched in each image, for objects of any size."""
    images, areas = len(scorer.params.imgIds), len(scorer.params.areaRng)
    start = scorer.params.catIds.index(category_id) * areas * images
    return [e for e in scorer.evalImgs[start : start + images] if e is not None]


def confusion_matrix(found: Sequence[dict], truth: COCO, threshold: float) -> np.ndarray:
    """(n + 1, n + 1), counts of boxes at IoU 0.5: row true class, column predicted, last "background"; by supervision."""
    ids = sorted(truth.getCatIds())
    by_image = {i: [] for i in truth.imgs}
    for a in found:
        by_image[a['image_id']].append(a)
    predicted = [_detections(by_image[i], ids) for i in truth.imgs]
    true = [_detections([a for a in truth.imgToAnns[i] if not a.get('iscrowd')], ids) for i in truth.imgs]
    names = [c['name'] for c in truth.loadCats(ids)]
    matrix = sv.ConfusionMatrix.from_detections(
        predicted, true, names, conf_threshold=threshold, iou_threshold=IOU
    )
    return matrix.matrix.astype(int)


def _detections(entries: Sequence[dict], ids: Sequence[int]) -> sv.Detections:
    if not entries:
        return sv.Detections(
            np.zeros((0, 4), np.float32), confidence=np.zeros(0, np.float32), class_id=np.zeros(0, int)
        )
    boxes = np.array([a['bbox'] for a in entries], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([a.get('score', 1.0) for a in entries], np.float32)
    return sv.Detections(
        boxes, confidence=scores, class_id=np.array([ids.index(a['category_id']) for a in entries])
    )


def _mistakes(
    scorer: COCOeval, truth: COCO, found: Sequence[dict], names: dict[int, str], threshold: float
) -> list[Mistake]:
    there: dict[int, list] = {}
    for entries, real in (
        (truth.dataset['annotations'], True),
        ([a for a in found if a['score'] >= threshold], False),
    ):
        for a in entries:
            there.setdefault(a['image_id'], []).append((tuple(a['bbox']), names[a['category_id']], real))
    mistakes = []
    for category_id, name in names.items():
        for e in _all_areas(scorer, category_id):
            image, dt, gt = truth.imgs[e['image_id']]['file_name'], scorer.cocoDt.anns, truth.anns
            wrong = (
                (e['dtMatches'][0] == 0)
                & ~e['dtIgnore'][0].astype(bool)
                & (np.array(e['dtScores']) >= threshold)
            )
            missed = (e['gtMatches'][0] == 0) & (np.array(e['gtIgnore']) == 0)
            entries = [(dt[e['dtIds'][i]], dt[e['dtIds'][i]]['score']) for i in np.flatnonzero(wrong)]
            entries += [(gt[e['gtIds'][i]], None) for i in np.flatnonzero(missed)]
            for entry, score in entries:
                box = tuple(entry['bbox'])
                others = [o for o in there.get(e['image_id'], ()) if o[0] != box]
                mistakes.append(Mistake(image, box, name, score, others))
    return mistakes
