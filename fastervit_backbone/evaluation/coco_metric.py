"""COCO evaluation for mmdet's metric: pycocotools' AP, in C++ where faster-coco-eval is installed."""

from importlib.util import find_spec

import numpy as np

from ..datasets.coco import renumber_zero_ids

#: Detections of a class in an image that count for AP, as COCO defines it.
MAX_DETECTIONS = 100


class CappedPrecision:
    """Mixin for a COCOeval: AP of the best 100 detections, whatever the largest of ``maxDets`` is.

    mmdet evaluates with ``maxDets=[100, 300, 1000]`` for its recalls, and takes AP at 1000 then. Recalls stay as they are.
    """

    def accumulate(self, *args: object) -> None:
        """As COCOeval's; the precision at the last of ``maxDets`` is that at 100."""
        super().accumulate(*args)
        limits = list(self.params.maxDets)
        if limits[-1] > MAX_DETECTIONS and MAX_DETECTIONS in limits:
            for key in ('precision', 'scores'):  # (IoU, recall, class, area, limit)
                values = np.array(self.eval[key])
                values[..., -1] = values[..., limits.index(MAX_DETECTIONS)]
                self.eval[key] = values


class _FromOne:
    """Mixin for a COCO: no annotation has the id 0."""

    def createIndex(self) -> None:  # noqa: N802 - pycocotools' name
        """As COCO's."""
        renumber_zero_ids(self.dataset.get('annotations', ()))
        super().createIndex()


def patch_coco_metric() -> bool:
    """Make mmdet's ``CocoMetric`` give pycocotools' AP; returns whether faster-coco-eval computes it.

    Its figures are pycocotools' (``tests/evaluation/test_coco_metric.py``), in a tenth of the time: docs/benchmarks/cpu_data.md.
    """
    from mmdet.evaluation.metrics import coco_metric

    faster = find_spec('faster_coco_eval') is not None
    if issubclass(coco_metric.COCOeval, CappedPrecision):
        return faster
    if faster:
        from faster_coco_eval import COCOeval_faster as Evaluation
    else:
        Evaluation = coco_metric.COCOeval
    coco_metric.COCOeval = type('COCOeval', (CappedPrecision, Evaluation), {})
    coco_metric.COCOevalMP = type('COCOevalMP', (CappedPrecision, coco_metric.COCOevalMP), {})
    coco_metric.COCO = type('COCO', (_FromOne, coco_metric.COCO), {})
    return faster
