"""The one scorer: cocoapi's own example on every road, and results in every form that COCO allows."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from fastervit_backbone.evaluation.analyze import analyze
from fastervit_backbone.evaluation.coco_files import read_detections, read_truth
from fastervit_backbone.evaluation.objects import analyze_objects
from fastervit_backbone.evaluation.score import (
    FIGURES,
    confusion_of,
    figures,
    intersection_over_union,
    score_objects,
)
from fastervit_backbone.structures.polygons import polygons_of
from fastervit_backbone.utils.errors import UserError

#: The twelve figures that cocoapi gives, cut after six digits.
_BOXES = '0.504581 0.696973 0.572982 0.585626 0.519400 0.501398 0.386813 0.593680 0.595353 0.639811 0.566421'
_MASKS = '0.319545 0.562288 0.298927 0.387374 0.310183 0.326934 0.268230 0.415449 0.416839 0.469449 0.376759'
EXPECTED = {
    kind: [*map(float, text.split()), last]
    for kind, text, last in (('bbox', _BOXES, 0.564291), ('segm', _MASKS, 0.381471))
}


@pytest.fixture(scope='module', params=['bbox', 'segm'])
def kind(request):
    return request.param


@pytest.fixture
def example(real_data, kind):
    folder = real_data / 'cocoapi_fake100'
    truth = folder / 'instances_val2014_100.json'
    return truth, folder / ('fakebbox.json' if kind == 'bbox' else 'fakesegm.json')


def of_mmdet(truth, found, kind):
    """As training and ``test`` evaluate, with mmdet's own choice of detections that count."""
    coco_metric = pytest.importorskip('mmdet.evaluation.metrics.coco_metric')
    from fastervit_backbone.evaluation.coco_metric import patch_coco_metric

    patch_coco_metric()
    api = coco_metric.COCO(str(truth))
    found = [{k: v for k, v in a.items() if kind == 'bbox' or k != 'bbox'} for a in found]
    scorer = coco_metric.COCOeval(api, api.loadRes(found), kind)
    scorer.params.maxDets = [1, 10, 100]
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return scorer.stats[:12]


ROADS = dict(
    test=of_mmdet,
    analyze=lambda truth, found, kind: list(
        analyze_objects(dict(annotations=found), read_truth(truth, kind), kind=kind).summary.values()
    ),
    export=lambda truth, found, kind: list(
        figures(score_objects(read_truth(truth, kind), found, kind)).values()
    ),
)


@pytest.mark.realdata
@pytest.mark.parametrize('road', ROADS)
def test_the_example_of_cocoapi(road, example, kind):
    truth, found = example
    values = ROADS[road](truth, json.loads(found.read_text()), kind)
    assert list(values) == pytest.approx(EXPECTED[kind], abs=1e-6)


def as_polygons(found, truth):
    for a in found:
        if 'segmentation' in a:
            a['segmentation'] = polygons_of(coco_mask.decode(a['segmentation']).astype(bool))
    return [a for a in found if a.get('segmentation', True)]


def as_lists(found, truth):
    for a in found:
        if 'segmentation' in a:
            flat = coco_mask.decode(a['segmentation']).ravel(order='F')
            edges = np.flatnonzero(np.diff(flat)) + 1
            counts = np.diff([0, *edges, flat.size]).tolist()
            a['segmentation']['counts'] = [0, *counts] if flat[0] else counts
    return found


FORMS = dict(
    polygons=as_polygons,
    lists=as_lists,
    boxes_of_masks=lambda found, truth: [
        a | (dict(bbox=coco_mask.toBbox(a['segmentation']).tolist()) if 'segmentation' in a else {})
        for a in found
    ],
)


@pytest.mark.realdata
@pytest.mark.parametrize('form', FORMS)
def test_results_in_other_forms(form, example, kind, tmp_path):
    truth, found = example
    changed = FORMS[form](json.loads(found.read_text()), truth)
    (tmp_path / 'found.json').write_text(json.dumps(changed))
    results = analyze_objects(read_detections(tmp_path / 'found.json'), read_truth(truth, kind), kind=kind)
    assert list(results.summary.values()) == pytest.approx(EXPECTED[kind], abs=1e-6)
    assert results.confusion.sum() > 800


def other_ids(truth, first=1):
    """Ids of objects restart in each image; whole numbers are floats; everything is in another order."""
    seen = {}
    for a in truth['annotations']:
        seen[a['image_id']] = seen.get(a['image_id'], first - 1) + 1
        a |= dict(id=seen[a['image_id']], image_id=float(a['image_id']))
    for image in truth['images']:
        image |= dict(id=float(image['id']), width=float(image['width']))
    truth['categories'].reverse()
    truth['images'].reverse()


@pytest.mark.realdata
@pytest.mark.parametrize('first', [0, 1])
@pytest.mark.parametrize('road', ROADS)
def test_the_truth_in_another_form(road, first, example, kind, tmp_path):
    path, found = example
    truth = json.loads(path.read_text())
    other_ids(truth, first)
    (tmp_path / 'truth.json').write_text('\ufeff' + json.dumps(truth))
    values = ROADS[road](tmp_path / 'truth.json', json.loads(found.read_text()), kind)
    assert list(values) == pytest.approx(EXPECTED[kind], abs=1e-6)


@pytest.mark.realdata
def test_polygons_of_two_points_are_one_line(real_data, tmp_path):
    path = real_data / 'coco_pixabay61' / 'annotations' / 'instances_all.json'
    image, category = (json.loads(path.read_text())[key][0]['id'] for key in ('images', 'categories'))
    found = [
        dict(
            image_id=image,
            category_id=category,
            score=0.5,
            bbox=[1, 1, 9, 9],
            segmentation=[[1, 1, 9, 1, 9, 9]],
        )
    ]
    (tmp_path / 'found.json').write_text(json.dumps(found))
    with pytest.raises(UserError, match=r'annotation \d+ has polygons of fewer than three points') as error:
        analyze(tmp_path / 'found.json', path, tmp_path / 'report', metric='segm')
    assert '\n' not in str(error.value)
    assert analyze(tmp_path / 'found.json', path, tmp_path / 'report')


def test_nothing_found_and_nothing_there():
    truth = COCO()
    truth.dataset = dict(
        images=[dict(id=1, height=9, width=9)], annotations=[], categories=[dict(id=1, name='a')]
    )
    truth.createIndex()
    assert all(np.isnan(v) for v in figures(score_objects(truth, [], 'bbox')).values())
    assert set(figures(score_objects(truth, [], 'bbox'))) == set(FIGURES)


def test_intersection_over_union_by_hand():
    true, found = np.array([[0, 0, 1, 1], [2, 2, 9, 1]]), np.array([[0, 1, 1, 9], [2, 0, 0, 1]])
    confusion = confusion_of(true, found, 4)
    assert (
        confusion.sum() == 7 and confusion[1, 4] == 1
    )  # found as no class; the pixel without a class is left out
    assert intersection_over_union(confusion)[:3] == pytest.approx([1 / 3, 2 / 4, 1 / 2])
    assert np.isnan(intersection_over_union(confusion)[3])
