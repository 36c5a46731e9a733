"""Panoptic segmentation: files, figures, and one harness from training to pictures."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmdet')

from mmengine.config import Config

from fastervit_backbone.datasets.panoptic import as_ids, as_pixels, check_panoptic, read_ids
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.config.adaptations import fit_to_machine
from fastervit_backbone.engine.config.checks import check_data
from fastervit_backbone.engine.config.classes import fit_heads, stuff_of
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.evaluation.panoptic_metric import Segment, count_segments, panoptic_quality
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.inference.sources import choose_sources
from fastervit_backbone.prediction.run import PredictionRun
from fastervit_backbone.publish import publish
from fastervit_backbone.structures.prediction import Categories, segments_of
from fastervit_backbone.train import train
from fastervit_backbone.utils.errors import UserError
from tests.helpers import IN_PROCESS, ROOT
from tests.mm_helpers import load

DEMO = ROOT / 'configs' / 'demo' / 'mask2former-panoptic_shapes.py'
CLASSES = ('circle', 'square', 'triangle', 'background')


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=4, val=3, size=(64, 96))


def by_definition(truth, true_segments, found, found_segments, num_classes):
    """Compare every pair of masks, as the paper has it: the IoU of matches, and counts of the others."""
    void = truth == 0
    crowds = {s.label: truth == s.id for s in true_segments if s.is_crowd}
    ious, rest = [[] for _ in range(num_classes)], np.zeros((2, num_classes))
    matched = set()
    for t in true_segments:
        if t.is_crowd:
            continue
        a, best = truth == t.id, None
        for f in found_segments:
            b = (found == f.id) & ~void
            iou = (a & b).sum() / max((a | b).sum(), 1)
            if f.label == t.label and iou > 0.5:
                best = f.id
                ious[t.label].append(iou)
        matched.add(best)
        rest[1, t.label] += best is None
    for f in found_segments:
        b = found == f.id
        ignored = void | crowds.get(f.label, np.zeros_like(void))
        rest[0, f.label] += f.id not in matched and (b & ignored).sum() <= b.sum() / 2
    return ious, rest


@pytest.mark.parametrize('seed', range(8))
def test_quality_by_its_definition(seed):
    """Random segments with void, crowds, equal and shifted ones, and classes that are missing."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 7, (5, 6)), np.ones((4, 4), int))
    found = np.where(rng.random(truth.shape) < 0.85, truth, rng.integers(0, 7, truth.shape))
    found = np.roll(found, rng.integers(0, 3), axis=1)
    labels = rng.integers(0, 4, 7)
    true_segments = [Segment(i, int(labels[i]), i == 6) for i in range(1, 7)]
    others = np.where(rng.random(7) < 0.8, labels, rng.integers(0, 4, 7))
    found_segments = [Segment(i, int(others[i])) for i in range(1, 7)]
    counts = count_segments(truth, true_segments, found, found_segments, 5)
    ious, rest = by_definition(truth, true_segments, found, found_segments, 5)
    assert counts[0] == pytest.approx([sum(values) for values in ious])
    assert counts[1].tolist() == [len(values) for values in ious] and (counts[2:] == rest).all()
    quality = [
        sum(values) / (len(values) + rest[:, c].sum() / 2)
        for c, values in enumerate(ious)
        if values or rest[:, c].any()
    ]
    assert panoptic_quality(counts)['PQ'] == pytest.approx(100 * np.mean(quality))
    perfect = count_segments(truth, true_segments[:5], truth, true_segments[:5], 5)
    assert panoptic_quality(perfect) == dict(PQ=100, SQ=100, RQ=100)
    nothing = count_segments(truth, true_segments, np.zeros_like(truth), [], 5)
    assert panoptic_quality(nothing)['PQ'] == 0 and nothing[3].sum() == 5


def test_ids_and_pixels():
    ids = np.array([[0, 1, 255], [256, 65536 + 513, 256**3 - 1]])
    assert (as_ids(as_pixels(ids)) == ids).all() and as_pixels(ids)[0, 1].tolist() == [1, 0, 0]
    panoptic = np.array([[0, 1000, 1000], [-1, 2001, 3]], np.int32)
    numbers, entries = segments_of(panoptic, Categories(('a', 'b', 'c', 'sky'), (5, 6, 7, 9), num_things=3))
    assert numbers.tolist() == [[1, 3, 3], [0, 4, 2]]
    assert [(e['id'], e['category_id'], e['isthing'], e['area']) for e in entries] == [
        (1, 5, 1, 1), (2, 9, 0, 1), (3, 5, 1, 2), (4, 6, 1, 1)
    ]  # fmt: skip


def test_the_harness(shapes, tmp_path, monkeypatch):
    """Train, test and predict; what predict writes has the PQ that test says."""
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    options = IN_PROCESS | {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1}
    # an untrained model is sure of nothing
    sure = 'test_cfg=dict(object_mask_thr=0.0, iou_thr=0.0, filter_low_score=False)'
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = '{DEMO}'\nmodel = dict(panoptic_head=dict(num_queries=20), {sure})\n")
    train(own, work_dir=tmp_path / 'run', seed=0, options=options)
    run = tmp_path / 'run'
    config = run / own.name
    metrics = evaluate(config, run, work_dir=tmp_path / 'test', options=IN_PROCESS)
    assert {
        'coco_panoptic/PQ',
        'coco_panoptic/PQ_th',
        'coco_panoptic/PQ_st',
        'coco/segm_mAP',
    } <= metrics.keys()
    things, stuff = metrics['coco_panoptic/PQ_th'], metrics['coco_panoptic/PQ_st']
    predictor = Predictor(config, run)
    assert predictor.categories == Categories(CLASSES, (1, 2, 3, 4), num_things=3)
    sources, _ = choose_sources([str(shapes / 'images' / 'val')], None)
    out = tmp_path / 'out'
    PredictionRun(predictor, out, {}).run(sources)
    written = json.loads((out / 'panoptic.json').read_text())
    assert [c['isthing'] for c in written['categories']] == [1, 1, 1, 0]
    truth = json.loads((shapes / 'annotations' / 'panoptic_val.json').read_text())
    counts = np.zeros((4, 4))
    for annotation in written['annotations']:
        (true,) = (a for a in truth['annotations'] if a['image_id'] == annotation['image_id'])
        maps = [
            read_ids(shapes / 'panoptic' / 'val' / true['file_name']),
            read_ids(out / 'panoptic' / annotation['file_name']),
        ]
        segments = [
            [Segment(s['id'], s['category_id'] - 1) for s in a['segments_info']] for a in (true, annotation)
        ]
        assert {s.id for s in segments[1]} == set(np.unique(maps[1]).tolist()) - {0}
        ious, rest = by_definition(maps[0], segments[0], maps[1], segments[1], 4)
        counts += [[sum(v) for v in ious], [len(v) for v in ious], *rest]
    assert counts[1:3].any()  # something was found
    assert things == pytest.approx(panoptic_quality(counts[:, :3])['PQ'])
    assert stuff == pytest.approx(panoptic_quality(counts[:, 3:])['PQ'])
    with Image.open(out / 'pictures' / '000001.jpg') as picture:
        assert picture.width == 640
    boxes = json.loads((out / 'predictions.json').read_text())
    assert 'segments_info' not in boxes['images'][0]
    with pytest.raises(UserError, match='a panoptic model sees the whole image'):
        Predictor(config, run, tile=32)


def test_mmdets_metric_is_ours_here():
    config = load(ROOT / 'configs' / 'mask2former-panoptic_fastervit2_50e.py')
    assert config.val_evaluator[0].type == 'CocoPanopticMetric'
    fit_to_machine(config, 'none')
    assert config.val_evaluator[0].type == config.test_evaluator[0].type == 'PanopticMetric'
    stock = dict(type='CocoPanopticMetric', ann_file='a', seg_prefix='b', prefix='pan', nproc=4)
    for more, kind in ((dict(), 'PanopticMetric'), (dict(outfile_prefix='c'), 'CocoPanopticMetric')):
        config.val_evaluator = dict(stock, **more)
        fit_to_machine(config, 'none')
        assert (config.val_evaluator.type, config.val_evaluator.prefix) == (kind, 'pan')
    head = config.model.panoptic_head
    assert (head.num_things_classes, head.num_stuff_classes) == (80, 53)
    fit_heads(config, 7, 2)
    assert (head.num_things_classes, head.num_stuff_classes) == (5, 2)
    assert config.model.panoptic_fusion_head.num_things_classes == 5
    assert len(head.loss_cls.class_weight) == 8


def test_things_and_stuff_are_those_of_the_data(shapes, tmp_path, monkeypatch):
    """A head of another data set's counts is fitted alike in training and prediction."""
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    own = tmp_path / 'own.py'
    counts = 'dict(num_things_classes=80, num_stuff_classes=53)'
    own.write_text(
        f"_base_ = '{DEMO}'\nmodel = dict(panoptic_head={counts}, panoptic_fusion_head={counts})\n"
    )
    options = IN_PROCESS | {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 9}
    train(own, work_dir=tmp_path / 'run', seed=0, options=options)
    predictor = Predictor(own, tmp_path / 'run')
    head = predictor.model.panoptic_head
    assert (head.num_things_classes, head.num_stuff_classes, predictor.categories.num_things) == (3, 1, 3)
    folder = publish(tmp_path / 'run', tmp_path / 'published')
    assert str(shapes) not in (folder / 'config.py').read_text()
    assert Predictor(folder).categories == predictor.categories
    dataset = load_config(own).train_dataloader.dataset
    for names in (dict(thing_classes=CLASSES[:3]), dict(stuff_classes=CLASSES[3:])):
        dataset.metainfo = dict(classes=CLASSES, **names)
        assert stuff_of(dataset) == 1
    dataset.metainfo = dict(classes=CLASSES)
    with pytest.raises(UserError, match='not which are things: give thing_classes and stuff_classes'):
        stuff_of(dataset)


def test_boxes_are_scored_in_the_order_of_the_classes(shapes, tmp_path, monkeypatch):
    root = tmp_path / 'data'
    shutil.copytree(shapes, root)
    monkeypatch.setenv('SHAPES_ROOT', str(root))
    config = load_config(DEMO)
    assert check_data(config, ('val',)) == []
    path = root / 'annotations' / 'instances_val.json'
    content = json.loads(path.read_text())
    content['categories'].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match='mmdet would score one class as another: sort them'):
        check_data(config, ('val',))


def test_a_pipeline_that_loses_all_objects_is_seen(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    own = tmp_path / 'own.py'
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadPanopticAnnotations', with_bbox=True, with_mask=True, with_seg=True),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(999, 999), keep_empty=False),
        dict(type='PackDetInputs'),
    ]
    own.write_text(f"_base_ = '{DEMO}'\ntrain_dataloader = dict(dataset=dict(pipeline={steps}))\n")
    with pytest.raises(UserError, match='no object is left after step 2 of the train pipeline, FilterAnno'):
        train(own, work_dir=tmp_path / 'run', options=IN_PROCESS | {'train_cfg.max_epochs': 1})


SKY = dict(id=9, name='sky', isthing=0)


def segment(content):
    return content['annotations'][1]['segments_info'][0]


def edit(shapes, root, change):
    shutil.copytree(shapes, root)
    path = root / 'annotations' / 'panoptic_val.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path, root / 'panoptic' / 'val', root / 'images' / 'val'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['categories'].reverse(), 'in another order than metainfo.classes'),
        (lambda c: c['categories'][0].update(isthing=0), 'objects .isthing 1. first, then stuff'),
        (lambda c: c['categories'][0].pop('isthing'), r'categories\[0\] needs id, name and isthing'),
        (
            lambda c: c['categories'][3].update(isthing=1),
            'isthing of its categories and metainfo',
        ),
        (lambda c: c['annotations'][1].pop('segments_info'), r'annotations\[1\] has no list segments_info'),
        (lambda c: segment(c).update(id=9999), 'no pixel of segment 9999'),
        (lambda c: segment(c).update(id=0), 'different ids above 0'),
        (
            lambda c: segment(c).update(category_id=77),
            'category 77, which is not',
        ),
        (
            lambda c: segment(c).pop('bbox'),
            'a segment needs area, bbox, category_id, id',
        ),
        (lambda c: c['annotations'].pop(), 'image 3 has no annotation'),
        (lambda c: c['annotations'][1].pop('file_name'), 'has no file_name, the PNG of its segments'),
        (lambda c: c['annotations'][0].update(file_name='y.png'), 'mmdet looks for 000001.png: rename it'),
        (
            lambda c: c['categories'].append(dict(id=9, name='sky', isthing=0)),
            "'sky', which metainfo.classes lacks",
        ),
        (lambda c: c['images'][0].update(height=65), 'says another size'),
        (lambda c: c['images'][0].pop('width'), r'images\[0\] needs file_name, height, id, width'),
        (lambda c: c['images'][0].update(file_name='x.png'), 'x.png is not in'),
    ],
)
def test_wrong_files_are_one_line(change, message, shapes, tmp_path):
    places = edit(shapes, tmp_path / 'data', change)
    with pytest.raises(UserError, match=message) as error:
        check_panoptic(*places, CLASSES, CLASSES[:3], 'get it')
    assert '\n' not in str(error.value)


def test_gray_segments_are_refused(shapes, tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / 'x.png')
    with pytest.raises(UserError, match='is a L image: panoptic segments are ids in the colors'):
        read_ids(tmp_path / 'x.png')
    check_panoptic(*edit(shapes, tmp_path / 'data', lambda c: None), CLASSES, CLASSES[:3], '')
    assert Config.fromfile(DEMO).model.panoptic_head.num_stuff_classes == 1
