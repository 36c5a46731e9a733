"""Metrics per class equal those of pycocotools and mmseg on the same files; the page needs no other files."""

import csv
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('supervision')
pytest.importorskip('mmseg')

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastervit_backbone.evaluation.analyze import analyze
from fastervit_backbone.evaluation.coco_files import read_detections, read_truth
from fastervit_backbone.evaluation.label_maps import analyze_label_maps
from fastervit_backbone.evaluation.objects import analyze_objects, confusion_matrix
from fastervit_backbone.export.images import read_images
from fastervit_backbone.structures.prediction import Categories, encode_mask
from fastervit_backbone.utils.errors import UserError
from tests.helpers import assert_one_line_error
from tests.processes import verb

NAMES = {3: 'ant', 0: 'bee', 90: 'cat'}
CATEGORIES = Categories(tuple(NAMES.values()), tuple(NAMES))


def write_problem(folder, *, images=12, seed=0):
    """Write random objects and detections, some shifted, misclassified, invented, missing, of equal score."""
    rng = np.random.default_rng(seed)
    truth = dict(images=[], annotations=[], categories=[dict(id=i, name=n) for i, n in NAMES.items()])
    found = []
    (folder / 'images').mkdir(parents=True)
    for image_id in range(images):
        truth['images'].append(dict(id=image_id, file_name=f'{image_id}.png', height=120, width=160))
        picture = Image.fromarray(rng.integers(0, 255, (120, 160, 3), np.uint8))
        picture.save(folder / 'images' / f'{image_id}.png')
        for _ in range(int(rng.integers(0, 5))):
            x, y, w, h = (int(rng.integers(*limits)) for limits in ((0, 100), (0, 70), (8, 60), (8, 50)))
            category, crowd = int(rng.choice([3, 0])), int(rng.random() < 0.1)
            entry = dict(image_id=image_id, category_id=category, bbox=[x, y, w, h])
            entry |= dict(area=w * h, iscrowd=crowd)
            more = dict(id=1 + len(truth['annotations']), segmentation=box_code(x, y, w, h))
            truth['annotations'].append(entry | more)
            if rng.random() < 0.8:
                x, y = x + int(rng.integers(-6, 7)), y + int(rng.integers(-6, 7))
                category = category if rng.random() < 0.8 else int(rng.choice(list(NAMES)))
                score = round(float(rng.random()), 1)
                found.append(entry | dict(category_id=category, bbox=[x, y, w, h], score=score))
        if rng.random() < 0.5:
            invented = dict(image_id=image_id, category_id=3, bbox=[5, 5, 30, 20])
            found.append(invented | dict(score=round(float(rng.random()), 1)))
    for entry in found:
        entry.pop('iscrowd', None)
        entry['segmentation'] = box_code(*entry['bbox'])
    (folder / 'truth.json').write_text(json.dumps(truth))
    predictions = dict(images=truth['images'], categories=truth['categories'], annotations=found)
    (folder / 'predictions.json').write_text(json.dumps(predictions))
    return truth, found


def analyze_files(folder, predictions='predictions.json', truth='truth.json', out='a', **options):
    return analyze(folder / predictions, folder / truth, folder / out, **options)


def box_code(x, y, w, h):
    mask = np.zeros((120, 160), bool)
    mask[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)] = True
    code = encode_mask(mask)
    return dict(code, counts=code['counts'].decode())


def test_annotation_ids_that_restart_in_each_image(tmp_path):
    """pycocotools would look up another image's object."""
    truth, _ = write_problem(tmp_path)
    expected = analyze_objects(*(json_and_truth(tmp_path, 'truth.json')))
    count = {}
    for annotation in truth['annotations']:
        count[annotation['image_id']] = count.get(annotation['image_id'], -1) + 1
        annotation['id'] = count[annotation['image_id']]
    (tmp_path / 'restarting.json').write_text(json.dumps(truth))
    found = analyze_objects(*json_and_truth(tmp_path, 'restarting.json'))
    np.testing.assert_array_equal(list(found.summary.values()), list(expected.summary.values()))
    assert 0.1 < found.summary['AP'] < 1
    images = read_images(tmp_path / 'images', tmp_path / 'restarting.json', 'detection', CATEGORIES)
    ids = [a['id'] for a in images.truth.dataset['annotations']]
    assert len(set(ids)) == len(ids) == len(truth['annotations']) and 0 not in ids


def json_and_truth(folder, name):
    return read_detections(folder / 'predictions.json'), read_truth(folder / name)


def test_detections_on_crowds_are_no_mistakes(tmp_path):
    """COCO's evaluation ignores them; one that also matches an object counts."""
    box, crowd, other = [10, 10, 20, 20], [60, 10, 60, 60], [62, 12, 20, 20]
    entries = [(box, 0), (crowd, 1), (other, 0)]
    annotations = [
        dict(id=i, image_id=1, category_id=1, bbox=b, area=b[2] * b[3], iscrowd=c)
        for i, (b, c) in enumerate(entries, 1)
    ]
    content = dict(images=[dict(id=1, file_name='a.png', height=120, width=160)], annotations=annotations)
    content |= dict(categories=[dict(id=1, name='ant'), dict(id=2, name='bee')])
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    found = [(box, 1), (other, 1), ([90, 40, 20, 20], 1), ([90, 40, 20, 20], 2)]
    found = [dict(image_id=1, category_id=c, bbox=b, score=0.9) for b, c in found]
    matrix = confusion_matrix(found, read_truth(tmp_path / 'truth.json'), 0.5)
    assert matrix.tolist() == [[2, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_metrics_of_objects(kind, tmp_path):
    write_problem(tmp_path)
    truth = COCO(str(tmp_path / 'truth.json'))
    detections = json.loads((tmp_path / 'predictions.json').read_text())
    results = analyze_objects(detections, truth, kind=kind)
    for c, (category_id, name) in zip(results.classes, sorted(NAMES.items()), strict=True):
        one = COCOeval(truth, truth.loadRes(detections['annotations']), kind)
        one.params.catIds = [category_id]
        one.evaluate()
        one.accumulate()
        one.summarize()
        assert c.name == name
        if name == 'cat':  # predicted, but not in the ground truth
            assert c.objects == 0 and np.isnan(c.ap) and one.stats[0] == -1
            continue
        assert (c.ap, c.ap50) == pytest.approx((one.stats[0], one.stats[1]), abs=1e-12)
        recall_at_any_score = one.eval['recall'][0, 0, 0, -1]
        assert c.curve[-1, 2] == pytest.approx(recall_at_any_score, abs=1e-12)
        assert c.objects == sum(
            a['category_id'] == category_id and not a['iscrowd'] for a in truth.dataset['annotations']
        )
        thresholds = np.unique(c.curve[:, 0])  # the best threshold by brute force
        best = max(_f1(truth, detections['annotations'], category_id, t, kind)[2] for t in thresholds)
        expected = _f1(truth, detections['annotations'], category_id, c.threshold, kind)
        assert (c.precision, c.recall, c.f1) == pytest.approx(expected) and expected[2] == pytest.approx(best)
    found = detections['annotations']
    if kind == 'segm':  # as in mmdet: otherwise the areas of boxes are taken for those of masks
        found = [{k: v for k, v in a.items() if k != 'bbox'} for a in found]
    scorer = COCOeval(truth, truth.loadRes(found), kind)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert np.nan_to_num(list(results.summary.values()), nan=-1) == pytest.approx(scorer.stats, abs=1e-12)


def _f1(truth, found, category_id, threshold, kind):
    """Compute precision, recall and F1 of only the detections that score ``threshold`` or more."""
    kept = [a for a in found if a['category_id'] == category_id and a['score'] >= threshold]
    scorer = COCOeval(truth, truth.loadRes(kept), kind)
    scorer.params.catIds, scorer.params.areaRng = [category_id], [[0, 1e10]]
    scorer.params.iouThrs = np.array([0.5])
    scorer.evaluate()
    images = [e for e in scorer.evalImgs if e]
    is_hit = np.concatenate([e['dtMatches'][0][~e['dtIgnore'][0].astype(bool)] > 0 for e in images])
    objects = sum(int((np.array(e['gtIgnore']) == 0).sum()) for e in images)
    precision, recall = is_hit.sum() / max(1, len(is_hit)), is_hit.sum() / objects
    return precision, recall, 2 * precision * recall / max(1e-12, precision + recall)


def test_confusion_by_hand():
    def entry(image, category, box, **more):
        return dict(image_id=image, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0, **more)

    truth = COCO()
    truth.dataset = dict(
        images=[dict(id=1, file_name='a'), dict(id=2, file_name='b')],
        categories=[dict(id=i, name=n) for i, n in NAMES.items()],
        annotations=[
            entry(1, 0, [0, 0, 10, 10], id=1),
            entry(1, 3, [50, 50, 20, 20], id=2),
            entry(2, 90, [5, 5, 10, 10], id=3),
        ],
    )
    truth.createIndex()
    found = [
        entry(1, 0, [0, 0, 10, 9], score=0.9),  # correct
        entry(1, 90, [50, 50, 20, 20], score=0.8),  # an ant classified as a cat
        entry(2, 3, [80, 80, 9, 9], score=0.7),  # a false positive, while the cat is missed
        entry(2, 90, [5, 5, 10, 10], score=0.1),  # below the threshold
    ]
    #          bee ant cat background
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert confusion_matrix(found, truth, 0.3).tolist() == expected


def test_mistakes(tmp_path):
    truth, _ = write_problem(tmp_path)
    detections = json.loads((tmp_path / 'predictions.json').read_text())
    results = analyze_objects(detections, COCO(str(tmp_path / 'truth.json')), threshold=0.3)
    scores = [m.score for m in results.false_positives]
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.3 and len(scores) > 3
    areas = [m.box[2] * m.box[3] for m in results.misses]
    assert areas == sorted(areas, reverse=True) and len(areas) > 3
    real = {(a['image_id'], *a['bbox']) for a in truth['annotations']}
    assert all((int(m.image.removesuffix('.png')), *m.box) in real for m in results.misses)


def test_no_detection_at_all(tmp_path):
    write_problem(tmp_path)
    (tmp_path / 'predictions.json').write_text('[]')
    analyze_files(tmp_path, out='out', images=tmp_path / 'images')
    figures = json.loads((tmp_path / 'out' / 'figures.json').read_text())
    assert figures['summary']['AP'] == 0 and all(not c['recall'] for c in figures['classes'])


def write_label_maps(folder, *, wide=False):
    rng = np.random.default_rng(1)
    for i in range(3):
        true = rng.integers(0, 4, (30 + i, 40)).astype(np.uint16 if wide else np.uint8)
        guess = np.where(rng.random(true.shape) < 0.7, true, rng.integers(0, 4, true.shape))
        guess = guess.astype(true.dtype)
        true[rng.random(true.shape) < 0.1] = 65535 if wide else 255
        for subfolder, values in (('truth', true), ('out/labels', guess)):
            (folder / subfolder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / subfolder / f'{i}.png')
    categories = [dict(id=i, name=f'c{i}') for i in range(5)]  # c4 does not occur
    content = dict(info=dict(label_maps=True), images=[], categories=categories, annotations=[])
    (folder / 'out' / 'predictions.json').write_text(json.dumps(content))


@pytest.mark.parametrize('wide', [False, True])
def test_metrics_of_label_maps(wide, tmp_path):
    from mmseg.evaluation import IoUMetric

    write_label_maps(tmp_path, wide=wide)
    results = analyze_label_maps(tmp_path / 'out', tmp_path / 'truth', [f'c{i}' for i in range(5)], range(5))
    sums = [0, 0, 0, 0]
    for i in range(3):
        guess, true = (
            torch.from_numpy(np.asarray(Image.open(tmp_path / folder / f'{i}.png')).astype(np.int64))
            for folder in ('out/labels', 'truth')
        )
        true[true == 65535] = 255
        for j, area in enumerate(IoUMetric.intersect_and_union(guess, true, 5, 255)):
            sums[j] = sums[j] + area
    metrics = IoUMetric.total_area_to_metrics(*sums, metrics=['mIoU', 'mFscore'])
    for ours, theirs in (
        (results.iou, 'IoU'),
        (results.recall, 'Acc'),
        (results.f1, 'Fscore'),
        (results.precision, 'Precision'),
    ):
        np.testing.assert_allclose(ours, metrics[theirs], atol=1e-6)
    assert results.accuracy == pytest.approx(float(metrics['aAcc']))
    assert np.isnan(results.iou[4]) and [i[2] for i in results.images] == sorted(i[2] for i in results.images)


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    write_problem(folder)
    options = ['--images', 'images', '--out', 'out']
    done = verb('analyze-results', 'predictions.json', 'truth.json', *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_page_needs_no_other_files(report):
    folder, printed = report
    page = (folder / 'out' / 'report.html').read_text()
    assert 'http' not in page and not re.search(r'(?:src|href)="(?!data:)', page) and '<script' not in page
    assert page.count('data:image') > 5 and 'nan' not in re.sub(r'base64,[^"]+', '', page)
    assert len(list((folder / 'out' / 'false_positives').glob('*.jpg'))) > 3
    figures = json.loads((folder / 'out' / 'figures.json').read_text())
    rows = list(csv.DictReader((folder / 'out' / 'classes.csv').open()))
    assert [r['class'] for r in rows] == ['bee', 'ant', 'cat']
    assert float(rows[0]['AP']) == pytest.approx(figures['classes'][0]['AP'])
    assert f'AP {figures["summary"]["AP"]:.4f}' in printed


def test_the_page_opens_in_a_browser(report):
    browser = shutil.which('chromium') or shutil.which('google-chrome')
    if browser is None:
        pytest.skip('Chromium is not installed (make browser installs it)')
    folder, _ = report
    switches = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --window-size=1000,1400 '
    switches += '--disable-background-networking --disable-component-update --disable-sync'
    command = [browser, *switches.split(), f'--user-data-dir={folder}/profile']
    page = f'file://{folder}/out/report.html'
    text = subprocess.run([*command, '--dump-dom', page], capture_output=True, text=True, timeout=120)
    assert 'Worst false positives' in text.stdout
    screenshot = [*command, f'--screenshot={folder}/page.png', page]
    subprocess.run(screenshot, capture_output=True, timeout=120, check=True)
    pixels = np.asarray(Image.open(folder / 'page.png').convert('RGB'))
    assert pixels.shape == (1400, 1000, 3) and 0.5 < (pixels > 240).all(2).mean() < 0.99
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_names_are_escaped(tmp_path):
    truth, _ = write_problem(tmp_path)
    predictions = (tmp_path / 'predictions.json').read_text()
    for name, content in (('truth', json.dumps(truth)), ('predictions', predictions)):
        (tmp_path / f'{name}.json').write_text(content.replace('"ant"', '"<script>&"'))
    analyze_files(tmp_path)
    page = (tmp_path / 'a' / 'report.html').read_text()
    assert '&lt;script&gt;&amp;' in page and '<script' not in page


def test_user_errors(tmp_path):
    write_problem(tmp_path)
    write_label_maps(tmp_path)
    content = json.loads((tmp_path / 'predictions.json').read_text())

    def changed(name, change):
        copy = json.loads(json.dumps(content))
        change(copy)
        (tmp_path / name).write_text(json.dumps(copy))
        return tmp_path / name

    bad = tmp_path / 'bad.json'
    bad.write_text('{')
    for predictions, truth, message in (
        (tmp_path / 'absent.json', 'truth.json', 'no predictions at'),
        (bad, 'truth.json', 'broken JSON'),
        ('predictions.json', 'absent.json', 'no ground truth'),
        ('predictions.json', 'truth', 'is a folder of label maps'),
        ('out', 'truth.json', 'describes label maps'),
        (
            changed('a.json', lambda c: [k.update(name='dog') for k in c['categories']]),
            'truth.json',
            'no class of the predictions',
        ),
        (changed('b.json', lambda c: c['annotations'][0].update(image_id=999)), 'truth.json', 'image 999'),
        (changed('c.json', lambda c: c['annotations'][0].update(category_id=5)), 'truth.json', 'category 5'),
        (changed('d.json', lambda c: c['annotations'][0].pop('score')), 'truth.json', 'no valid score'),
        (
            changed('e.json', lambda c: c['annotations'][0].update(score=None)),
            'truth.json',
            r"prediction 0 has no valid score \('None'\): predict again",
        ),
        (changed('f.json', lambda c: c['annotations'].append(3)), 'truth.json', 'contains no detections'),
        (changed('g.json', lambda c: c['images'].append(c['images'][0])), 'truth.json', 'twice'),
        (
            changed('h.json', lambda c: [i.update(file_name='other.png') for i in c['images']]),
            'truth.json',
            r'image 0 \(other\.png\) of the predictions is not in the ground truth, and neither is any other',
        ),
        ('predictions.json', bad, 'is broken JSON'),
    ):
        with pytest.raises(UserError, match=message):
            analyze_files(tmp_path, predictions, truth, 'report')
        assert not (tmp_path / 'report').exists()
    for options, message in ((dict(threshold=5), 'threshold 5'), (dict(worst=-1), 'worst -1')):
        with pytest.raises(UserError, match=message):
            analyze_files(tmp_path, out='report', **options)
    done = verb('analyze-results', 'absent.json', 'truth.json', '--out', 'report', cwd=tmp_path)
    assert_one_line_error(done, 'no predictions at')


def test_home_made_ground_truth(tmp_path):
    """Areas and crowds may be missing, boxes may be outside the image; missing annotations or masks raise."""
    truth, _ = write_problem(tmp_path)
    before = analyze_files(tmp_path)
    for a in truth['annotations']:
        a.pop('area')
        if not a['iscrowd']:
            a.pop('iscrowd')
        a.pop('segmentation')
    (tmp_path / 'no_masks.json').write_text(json.dumps(truth))
    assert analyze_files(tmp_path, 'predictions.json', 'no_masks.json', 'b')[0] == before[0]
    with pytest.raises(UserError, match='no segmentation'):
        analyze_files(tmp_path, 'predictions.json', 'no_masks.json', 'c', metric='segm')
    outside = dict(id=999, image_id=0, category_id=0, bbox=[500, 500, 9, 9])
    content = truth | dict(annotations=[*truth['annotations'], outside])
    (tmp_path / 'outside.json').write_text(json.dumps(content))
    analyze_files(tmp_path, 'predictions.json', 'outside.json', 'd', images=tmp_path / 'images')
    del truth['annotations']
    (tmp_path / 'none.json').write_text(json.dumps(truth))
    with pytest.raises(UserError, match='is JSON but not COCO: it has no list annotations'):
        analyze_files(tmp_path, 'predictions.json', 'none.json', 'e')


def test_ignored_classes(tmp_path):
    """``ignored`` leaves out the true pixels of a class, and nothing else."""
    write_label_maps(tmp_path)
    names = [f'c{i}' for i in range(5)]
    confusion = analyze_label_maps(tmp_path / 'out', tmp_path / 'truth', names, range(5)).confusion
    ignored = analyze_label_maps(
        tmp_path / 'out', tmp_path / 'truth', names, range(5), ignored=(2,)
    ).confusion
    confusion[2] = 0
    assert np.array_equal(ignored, confusion)


def test_class_255_of_16_bit_label_maps(tmp_path):
    """255 is only ignored if no class has this value."""
    values = np.array([[0, 255, 299, 65535]], np.uint16)
    for folder in ('labels', 'truth'):
        (tmp_path / folder).mkdir()
        Image.fromarray(values).save(tmp_path / folder / '1.png')
    results = analyze_label_maps(tmp_path, tmp_path / 'truth', [str(i) for i in range(300)], range(300))
    assert np.flatnonzero(results.iou == 1).tolist() == [0, 255, 299] and results.confusion.sum() == 3


def test_label_maps_that_do_not_fit(tmp_path):
    write_label_maps(tmp_path)
    truth = tmp_path / 'truth' / '1.png'
    good = truth.read_bytes()

    def assert_error(message, folder='truth'):
        with pytest.raises(UserError, match=message):
            analyze_label_maps(tmp_path / 'out', tmp_path / folder, ['a', 'b', 'c', 'd'], range(4))

    Image.fromarray(np.full((31, 40), 9, np.uint8)).save(truth)
    assert_error(r'1\.png has the value 9')
    analyze_label_maps(tmp_path / 'out', tmp_path / 'truth', ['a', 'b', 'c', 'd'], range(4), ignored=(9,))
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(truth)
    assert_error('6x5')
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(truth)
    assert_error('is not a label map')
    truth.write_bytes(good)
    (tmp_path / 'out' / 'labels' / '2.png').unlink()
    assert_error('no prediction')
    assert_error('no label maps', folder='nowhere')


def test_ids_that_differ_are_matched_by_name(tmp_path):
    """Predictions may number images and classes differently: the metrics are the same."""
    truth, found = write_problem(tmp_path)
    messages = analyze_files(tmp_path, images=tmp_path / 'images')
    content = json.loads((tmp_path / 'predictions.json').read_text())
    categories = {3: 90, 90: 0, 0: 3}  # permuted
    for image in content['images']:
        image.update(id=100 - image['id'], file_name=f'below/{image["file_name"]}')
    for category in content['categories']:
        category['id'] = categories[category['id']]
    for a in content['annotations']:
        a.update(image_id=100 - a['image_id'], category_id=categories[a['category_id']])
    (tmp_path / 'other.json').write_text(json.dumps(content))
    again = analyze_files(tmp_path, 'other.json', 'truth.json', 'b', images=tmp_path / 'images')
    assert again[:-1] == messages[:-1] and again[0].startswith('AP 0.')
    for name in ('figures.json', 'classes.csv', 'confusion.csv'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()

    # a ground truth of only some images: the other predictions are removed
    annotations = [a for a in truth['annotations'] if a['image_id'] < 5]
    content_of_some = truth | dict(images=truth['images'][:5], annotations=annotations)
    (tmp_path / 'some.json').write_text(json.dumps(content_of_some))
    messages = analyze_files(tmp_path, 'other.json', 'some.json', 'c')
    removed = 'removed: predictions of 7 images that are not in the ground truth (below/5.png, ...)'
    assert removed in messages
    detections = dict(annotations=[a for a in found if a['image_id'] < 5])
    results = analyze_objects(detections, COCO(str(tmp_path / 'some.json')))
    assert messages[0].startswith(f'AP {results.summary["AP"]:.4f}')
    content['images'] = content['images'][3:]
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] <= 97]
    (tmp_path / 'few.json').write_text(json.dumps(content))
    messages = analyze_files(tmp_path, 'few.json', 'some.json', 'd')
    assert '3 of 5 images have no predictions: their objects count as missed' in messages


@pytest.mark.parametrize('which', ['the same name in two folders', 'one image twice'])
def test_ambiguous_names(which, tmp_path):
    truth, _ = write_problem(tmp_path)
    content = json.loads((tmp_path / 'predictions.json').read_text())
    if which == 'one image twice':
        content['images'].append(dict(content['images'][0], id=77, file_name='again/0.png'))
        message = '0.png of the ground truth is in the predictions 2 times'
    else:
        for number, folder in ((0, 'a'), (1, 'b')):
            truth['images'][number]['file_name'] = f'{folder}/0.png'
        content['images'][0]['id'] = 77
        message = '0.png of the predictions matches 2 images of the ground truth, such as a/0.png'
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    (tmp_path / 'predictions.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        analyze_files(tmp_path, out='out')


def test_the_same_names_in_two_folders(tmp_path):
    """Cameras may number their frames alike: the path takes precedence over the id."""
    truth, _ = write_problem(tmp_path)
    for image in truth['images']:
        image['file_name'] = f'{"ab"[image["id"] % 2]}/{image["id"] // 2}.png'
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    content = json.loads((tmp_path / 'predictions.json').read_text())
    content['images'] = json.loads(json.dumps(truth['images']))
    (tmp_path / 'predictions.json').write_text(json.dumps(content))
    before = analyze_files(tmp_path, out='x')
    for entry in [*content['images'], *content['annotations']]:
        key = 'id' if 'file_name' in entry else 'image_id'
        entry[key] ^= 1  # 0 is now b/0.png, 1 is a/0.png
    (tmp_path / 'predictions.json').write_text(json.dumps(content))
    assert analyze_files(tmp_path, out='y')[0] == before[0]
    for image in content['images']:  # without folders, with the ids of the ground truth
        image['id'] ^= 1
        image['file_name'] = image['file_name'][2:]
    for a in content['annotations']:
        a['image_id'] ^= 1
    (tmp_path / 'predictions.json').write_text(json.dumps(content))
    assert analyze_files(tmp_path, out='z')[0] == before[0]


def test_classes_that_only_the_model_has(tmp_path):
    write_problem(tmp_path)
    before = analyze_files(tmp_path)[0]
    content = json.loads((tmp_path / 'predictions.json').read_text())
    content['categories'].append(dict(id=5, name='dog'))
    content['annotations'].append(dict(content['annotations'][0], category_id=5))
    (tmp_path / 'predictions.json').write_text(json.dumps(content))
    messages = analyze_files(tmp_path, out='b')
    assert messages[0] == before
    assert 'removed: predictions of classes that are not in the ground truth: dog' in messages
    # its id is that of another class in the ground truth, which is predicted under another id
    content['categories'][-1]['id'] = 3
    content['categories'][0]['id'] = 5
    for a in content['annotations']:
        a['category_id'] = {3: 5, 5: 3}.get(a['category_id'], a['category_id'])
    (tmp_path / 'predictions.json').write_text(json.dumps(content))
    assert analyze_files(tmp_path, out='c')[0] == before
