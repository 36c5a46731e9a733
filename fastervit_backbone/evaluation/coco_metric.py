"""COCO evaluation for mmdet's metric: pycocotools' AP, in C++ where faster-coco-eval is installed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..datasets.coco import complete_for_evaluation, read_coco

#: Detections per class and image that AP considers, as defined by COCO.
MAX_DETECTIONS = 100


class CappedPrecision:
    """Mixin for COCOeval: AP of the best 100 detections, whatever the largest of ``maxDets`` is.

    mmdet evaluates with ``maxDets=[100, 300, 1000]`` for its recalls, and then also reports AP at 1000.
    Recalls are not changed.
    """

    def accumulate(self, *args: object) -> None:
        """Accumulate as COCOeval does, then set the precision at the last of ``maxDets`` to that at 100."""
        super().accumulate(*args)
        limits = list(self.params.maxDets)
        if limits[-1] > MAX_DETECTIONS and MAX_DETECTIONS in limits:
            for key in ('precision', 'scores'):  # (IoU, recall, class, area, limit)
                values = np.array(self.eval[key])
                values[..., -1] = values[..., limits.index(MAX_DETECTIONS)]
                self.eval[key] = values


class _OwnReader:
    """Mixin for COCO: the json is read as checks read it; no annotation has the id 0 or lacks iscrowd."""

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset = read_coco(Path(annotation_file))
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs  # mmdet's names

    def createIndex(self) -> None:  # noqa: N802 - pycocotools' name
        """Renumber ids of 0 and fill in iscrowd, then index as COCO does."""
        complete_for_evaluation(self.dataset.get('annotations', ()))
        super().createIndex()


def patch_coco_metric() -> bool:
    """Make mmdet's ``CocoMetric`` report pycocotools' AP, and its COCO data read jsons as we do.

    Calling it again has no effect.

    faster-coco-eval gives the same figures (``tests/evaluation/test_coco_metric.py``) in a tenth of the time
    (docs/benchmarks/cpu_data.md).

    Returns:
        whether faster-coco-eval computes the figures.
    """
    from mmdet.datasets import CocoDataset
    from mmdet.evaluation.metrics import coco_metric

    faster = find_spec('faster_coco_eval') is not None
    if not issubclass(CocoDataset.COCOAPI, _OwnReader):
        CocoDataset.COCOAPI = type('COCO', (_OwnReader, CocoDataset.COCOAPI), {})
    if issubclass(coco_metric.COCOeval, CappedPrecision):
        return faster
    if faster:
        from faster_coco_eval import COCOeval_faster as Evaluation
    else:
        Evaluation = coco_metric.COCOeval
    coco_metric.COCOeval = type('COCOeval', (CappedPrecision, Evaluation), {})
    coco_metric.COCOevalMP = type('COCOevalMP', (CappedPrecision, coco_metric.COCOevalMP), {})
    coco_metric.COCO = type('COCO', (_OwnReader, coco_metric.COCO), {})
    return faster
