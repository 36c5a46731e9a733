import pytest

pytest.importorskip('mmdet')
pytest.importorskip('faster_coco_eval')

from faster_coco_eval import COCOeval_faster
from mmdet.evaluation.metrics import coco_metric

from fastervit_backbone.analysis.data_path import evaluation_times
from fastervit_backbone.engine.coco_eval import use_faster_coco_eval


def test_the_twelve_figures_are_pycocotools():
    results = evaluation_times(images=60, detections=30)
    slow, fast = results['pycocotools'][1], results['faster-coco-eval'][1]
    assert len(slow) == 12 and 0.1 < slow[0] < 0.95
    assert fast == pytest.approx(slow, abs=1e-12)


def test_mmdets_metric_uses_it(monkeypatch):
    monkeypatch.setattr(coco_metric, 'COCOeval', coco_metric.COCOeval)
    assert use_faster_coco_eval() and coco_metric.COCOeval is COCOeval_faster
