"""The patched COCO metric of mmdet: figures equal pycocotools', for any maxDets and any annotation ids."""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('mmdet')
pytest.importorskip('faster_coco_eval')

from mmdet.datasets import api_wrappers
from mmdet.evaluation.metrics import coco_metric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastervit_backbone.benchmark.data_path import evaluation_times
from fastervit_backbone.evaluation import coco_metric as coco_eval
from fastervit_backbone.evaluation.coco_metric import patch_coco_metric
from fastervit_backbone.evaluation.objects import analyze_objects
from tests.helpers import ROOT


@pytest.fixture(params=['faster-coco-eval', 'pycocotools'])
def patched(request, monkeypatch):
    """Patch mmdet's metric, and restore it after the test."""
    for name in ('COCO', 'COCOeval', 'COCOevalMP'):
        original = getattr(coco_metric, name)
        while original.__module__ == coco_eval.__name__:
            original = original.__mro__[2]
        if name == 'COCOeval':
            original = api_wrappers.COCOeval
        monkeypatch.setattr(coco_metric, name, original)
    if request.param == 'pycocotools':
        monkeypatch.setattr(coco_eval, 'find_spec', lambda name: None)
    assert patch_coco_metric() == (request.param == 'faster-coco-eval')


def crowded(first_id=1, objects=150, detections=300):
    """Return two images with 150 objects of one class and 300 detections each, half of them correct."""
    rng = np.random.default_rng(0)
    truth = dict(images=[], annotations=[], categories=[dict(id=1, name='a')])
    found = []
    for image in (1, 2):
        truth['images'].append(dict(id=image, file_name=f'{image}.png', width=1000, height=1000))
        boxes = np.concatenate([rng.uniform(0, 900, (objects, 2)), rng.uniform(10, 200, (objects, 2))], 1)
        for box in boxes.round(1).tolist():
            entry = dict(id=first_id + len(truth['annotations']), image_id=image, category_id=1, bbox=box)
            entry |= dict(area=box[2] * box[3], iscrowd=0, segmentation=[rectangle(*box)])
            truth['annotations'].append(entry)
        for i in range(detections):
            box = boxes[i % objects] + (rng.normal(0, 2, 4) if i < objects else rng.uniform(-9, 9, 4))
            x, y, w, h = box[0], box[1], max(4, box[2]), max(4, box[3])
            entry = dict(image_id=image, category_id=1, bbox=[x, y, w, h], score=float(rng.random()))
            found.append(entry | dict(segmentation=rectangle_code(x, y, w, h)))
    return truth, found


def rectangle(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def rectangle_code(*box):
    from pycocotools import mask

    code = mask.frPyObjects([rectangle(*box)], 1000, 1000)[0]
    return dict(code, counts=code['counts'].decode())


def pycocotools_stats(truth, found, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = json.loads(json.dumps(truth))
        ground.createIndex()
        found = [{k: v for k, v in a.items() if kind == 'bbox' or k != 'bbox'} for a in found]
        scorer = COCOeval(ground, ground.loadRes(found), kind)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer.stats


def metric_figures(truth, found, kind, tmp_path):
    """Run mmdet's CocoMetric as training and tools/test.py do."""
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(truth))
    metric = coco_metric.CocoMetric(ann_file=str(path), metric=kind)
    metric.dataset_meta = dict(classes=('a',))
    results = []
    for image in truth['images']:
        entries = [a for a in found if a['image_id'] == image['id']]
        boxes, scores = np.array([a['bbox'] for a in entries]), np.array([a['score'] for a in entries])
        boxes[:, 2:] += boxes[:, :2]
        labels = np.zeros(len(entries), int)
        prediction = dict(img_id=image['id'], bboxes=boxes, scores=scores, labels=labels)
        if kind == 'segm':
            codes = [a['segmentation'] for a in entries]
            prediction['masks'] = [dict(code, counts=code['counts'].encode()) for code in codes]
        results.append((dict(width=1000, height=1000, img_id=image['id']), prediction))
    with contextlib.redirect_stdout(io.StringIO()):
        return metric.compute_metrics(results)


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_more_than_a_hundred_detections(kind, patched, tmp_path):
    truth, found = crowded()
    figures = metric_figures(truth, found, kind, tmp_path)
    expected = pycocotools_stats(truth, found, kind)
    names = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']
    ours = [figures[f'{kind}_{name}'] for name in names]
    assert ours == pytest.approx(expected[:6], abs=6e-4)  # mmdet rounds to three places
    assert 0.1 < expected[0] < 0.9


def test_ap_at_a_thousand_detections_is_different():
    """Without the patch, mmdet's maxDets give another figure, so that the test above can fail."""
    truth, found = crowded()
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = truth
        ground.createIndex()
        scorer = COCOeval(ground, ground.loadRes(found), 'bbox')
        scorer.params.maxDets = [100, 300, 1000]
        scorer.evaluate()
        scorer.accumulate()
    precision = scorer.eval['precision'][..., 0, :]
    assert precision[..., -1].mean() > 1.3 * precision[..., 0].mean()


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_analysis_gives_pycocotools_twelve_figures(kind):
    truth, found = crowded()
    ground = COCO()
    ground.dataset = json.loads(json.dumps(truth))
    ground.createIndex()
    results = analyze_objects(dict(annotations=found), ground, kind=kind)
    assert list(results.summary.values()) == pytest.approx(pycocotools_stats(truth, found, kind), abs=1e-12)
    assert results.classes[0].ap == pytest.approx(results.summary['AP'])


def test_an_annotation_with_id_zero(patched, tmp_path):
    """Detect the only object, whose id is 0, perfectly."""
    box = [10.0, 10.0, 200.0, 200.0]
    entry = dict(image_id=1, category_id=1, bbox=box, area=40000.0, iscrowd=0, segmentation=[rectangle(*box)])
    image = dict(id=1, file_name='1.png', width=1000, height=1000)
    truth = dict(images=[image], categories=[dict(id=1, name='a')], annotations=[dict(entry, id=0)])
    found = [dict(entry, score=0.9)]
    assert pycocotools_stats(truth, found, 'bbox')[0] == 0.0  # pycocotools' defect
    assert metric_figures(truth, found, 'bbox', tmp_path)['bbox_mAP'] == 1.0


def test_annotations_without_iscrowd(patched, tmp_path):
    """pycocotools raises KeyError on them."""
    truth, found = crowded(objects=20, detections=30)
    expected = metric_figures(truth, found, 'bbox', tmp_path)
    for a in truth['annotations']:
        del a['iscrowd']
    assert metric_figures(truth, found, 'bbox', tmp_path) == expected and expected['bbox_mAP'] > 0.1


def test_the_twelve_figures_equal_pycocotools():
    results = evaluation_times(images=60, detections=30)
    slow, fast = results['pycocotools'][1], results['faster-coco-eval'][1]
    assert len(slow) == 12 and 0.1 < slow[0] < 0.95
    assert fast == pytest.approx(slow, abs=1e-12)


@pytest.mark.long
def test_it_is_patched_once():
    """In a separate process, so that previous imports have no effect."""
    code = """
from fastervit_backbone.evaluation.coco_metric import patch_coco_metric
from mmdet.evaluation.metrics import coco_metric
assert patch_coco_metric()
kinds = coco_metric.COCOeval, coco_metric.COCO
assert patch_coco_metric() and kinds == (coco_metric.COCOeval, coco_metric.COCO)
from faster_coco_eval import COCOeval_faster
assert issubclass(coco_metric.COCOeval, COCOeval_faster)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
