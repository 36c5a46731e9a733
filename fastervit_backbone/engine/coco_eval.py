"""COCO evaluation in C++ for mmdet's metric."""

from importlib.util import find_spec


def use_faster_coco_eval() -> bool:
    """Let mmdet's ``CocoMetric`` evaluate with faster-coco-eval where that is installed; says whether it is.

    The twelve figures are pycocotools' (``tests/engine/test_coco_eval.py``), in a tenth of the time: docs/benchmarks/cpu_data.md.
    """
    if find_spec('faster_coco_eval') is None:
        return False
    from faster_coco_eval import COCOeval_faster
    from mmdet.evaluation.metrics import coco_metric

    coco_metric.COCOeval = COCOeval_faster
    return True
