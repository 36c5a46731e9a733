"""fastervit predict as users run it: odd images, videos, kills and reruns; its json scored by pycocotools."""

import errno
import json
import shutil
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastervit_backbone.inference.sources import find_sources
from fastervit_backbone.prediction.log import LOG_NAME, PredictionLog
from fastervit_backbone.prediction.run import PredictionRun
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, QUICK, ROOT, UPERNET, assert_one_line_error, make_video, odd_images
from tests.mm_helpers import save_untrained
from tests.processes import start_verb, verb

ALL = ['--threshold', '0']


def predict(*arguments, cwd, **variables):
    return verb('predict', *arguments, cwd=cwd, **variables)


def read(folder):
    return json.loads((folder / 'predictions.json').read_text())


def test_a_folder_of_odd_images(detector, tmp_path):
    """Unreadable files are reported and skipped, with exit code 1."""
    names = odd_images(tmp_path / 'odd')
    make_video(tmp_path / 'odd' / 'clip.mp4')
    (tmp_path / 'odd' / 'broken.mp4').write_text('no video')
    done = predict(CASCADE, detector, 'odd', '--out', 'out', '--batch', '2', *ALL, cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    bad = [n for n, good in names.items() if not good] + ['broken.mp4']
    assert f'; {len(bad)} failed' in done.stdout
    for name in bad:
        assert sum(name in line for line in done.stdout.splitlines() if line.startswith('skipped')) == 1
    content = read(tmp_path / 'out')
    frames = [i for i in content['images'] if i['file_name'].startswith('clip.mp4')]
    images = {i['file_name'] for i in content['images']} - {i['file_name'] for i in frames}
    assert images == {n for n, good in names.items() if good}
    assert [i['frame'] for i in frames] == list(range(7))
    assert len({i['id'] for i in content['images']}) == len(content['images'])
    assert {a['category_id'] for a in content['annotations']} <= {7, 0, 90}
    assert {a['image_id'] for a in content['annotations']} <= {i['id'] for i in content['images']}
    pictures = {p.name for p in (tmp_path / 'out' / 'pictures').iterdir()}
    assert len(pictures) == sum(names.values()) + 1
    capture = cv2.VideoCapture(str(tmp_path / 'out' / 'pictures' / 'clip.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7 and capture.get(cv2.CAP_PROP_FPS) == 10
    again = predict(CASCADE, detector, 'odd', '--out', 'out', '--batch', '2', *ALL, cwd=tmp_path)
    assert again.returncode == 1  # the unreadable files were tried again
    assert f'{sum(names.values()) + 1} already done' in again.stdout
    assert read(tmp_path / 'out') == content


def test_label_maps(shapes, segmenter, tmp_path):
    done = predict(UPERNET, segmenter, shapes / 'images' / 'val', '--out', 'out', '--no-draw', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = read(tmp_path / 'out')
    assert not (tmp_path / 'out' / 'pictures').exists()
    assert [c['id'] for c in content['categories']] == [0, 1, 2, 3]
    for image in content['images']:
        stem = image['file_name'].removesuffix('.png')
        labels = np.asarray(Image.open(tmp_path / 'out' / 'labels' / f'{stem}.png'))
        colors = np.asarray(Image.open(tmp_path / 'out' / 'colors' / f'{stem}.png'))
        assert labels.shape == (96, 128) and labels.max() <= 3
        for label in np.unique(labels):
            assert len(np.unique(colors[labels == label], axis=0)) == 1
            key = (image['id'], label)
            areas = [a['area'] for a in content['annotations'] if (a['image_id'], a['category_id']) == key]
            assert areas == [(labels == label).sum()]


def test_its_json_is_scored(shapes, detector, tmp_path):
    """Image ids are the data set's, pycocotools scores the json as it is, and AP is that of tools/test.py."""
    # give the ground truth the made-up category ids of the checkpoint
    annotations = json.loads((shapes / 'annotations' / 'instances_val.json').read_text())
    old_ids = sorted(category['id'] for category in annotations['categories'])
    new_ids = dict(zip(old_ids, (7, 0, 90), strict=True))
    for entry in annotations['annotations']:
        entry['category_id'] = new_ids[entry['category_id']]
    for category in annotations['categories']:
        category['id'] = new_ids[category['id']]
    (tmp_path / 'truth.json').write_text(json.dumps(annotations))
    run_options = dict(cwd=tmp_path, SHAPES_ROOT=str(shapes))
    arguments = [CASCADE, detector, shapes / 'images' / 'val', '--out', 'out', *ALL, '--no-draw']
    done = predict(*arguments, **run_options)
    assert done.returncode == 0, done.stderr
    content = read(tmp_path / 'out')
    truth = COCO(str(tmp_path / 'truth.json'))
    assert {(i['id'], i['file_name']) for i in content['images']} == {
        (i['id'], i['file_name']) for i in annotations['images']
    }
    options = [
        *QUICK,
        f'test_dataloader.dataset.ann_file={tmp_path}/truth.json',
        f'test_evaluator.ann_file={tmp_path}/truth.json',
    ]
    test = verb('test', CASCADE, detector, '--out', 'metrics.json', '--cfg-options', *options, **run_options)
    assert test.returncode == 0, test.stderr
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    for kind in ('bbox', 'segm'):
        scorer = COCOeval(truth, truth.loadRes(content['annotations']), kind)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
        expected = pytest.approx(metrics[f'coco/{kind}_mAP'], abs=5.1e-4)  # mmdet rounds to three places
        assert scorer.stats[0] == expected


def test_killed_and_started_again(shapes, detector, tmp_path):
    """Killed within a folder and resumed: no result is lost or repeated, and the json is the same."""
    (tmp_path / 'many').mkdir()
    source = sorted((shapes / 'images' / 'val').glob('*.png'))
    for i in range(24):
        (tmp_path / 'many' / f'{i:02}.png').write_bytes(source[i % len(source)].read_bytes())
    arguments = [str(CASCADE), str(detector), 'many', *ALL]
    whole = predict(*arguments, '--out', 'whole', cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    kills = 0
    log = tmp_path / 'killed' / LOG_NAME
    for lines in (3, 11):
        process = start_verb('predict', *arguments, '--out', 'killed', cwd=tmp_path, log=tmp_path / 'log')
        deadline = time.monotonic() + 120
        while process.poll() is None and not (log.is_file() and log.read_bytes().count(b'\n') > lines):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        kills += process.poll() is None
        process.kill()
    assert kills >= 1
    with log.open('a') as file:
        file.write('{"source": "half a li')  # killed while writing
    done = predict(*arguments, '--out', 'killed', cwd=tmp_path)
    assert done.returncode == 0 and 'already done' in done.stdout, done.stderr
    assert read(tmp_path / 'killed') == read(tmp_path / 'whole')
    assert len(list((tmp_path / 'killed' / 'pictures').iterdir())) == 24


def test_results_are_not_mixed(shapes, detector, tmp_path):
    arguments = [CASCADE, detector, shapes / 'images' / 'val', '--out', 'out', '--no-draw']
    assert predict(*arguments, cwd=tmp_path).returncode == 0
    before = read(tmp_path / 'out')
    done = predict(*arguments, '--threshold', '0.5', cwd=tmp_path)
    assert_one_line_error(done, 'another threshold.*--overwrite')
    assert read(tmp_path / 'out') == before
    done = predict(*arguments, '--threshold', '0.01', '--overwrite', cwd=tmp_path)
    assert done.returncode == 0 and len(read(tmp_path / 'out')['annotations']) > len(before['annotations'])


def test_errors_are_one_line(shapes, detector, tmp_path):
    image = next((shapes / 'images' / 'val').glob('*.png'))
    (tmp_path / 'file').touch()
    for arguments, message in (
        ([CASCADE, detector, 'absent', '--out', 'out'], 'absent does not exist'),
        ([CASCADE, tmp_path / 'none.pth', image, '--out', 'out'], r'none\.pth'),
        ([CASCADE, detector, image, '--out', 'file'], 'which is a file'),
        ([CASCADE, detector, image, '--out', 'out', '--batch', '0'], 'batch 0'),
        ([CASCADE, detector, image, '--out', 'out', '--classes', 'cat'], "no class 'cat'"),
    ):
        assert_one_line_error(predict(*arguments, cwd=tmp_path), message)
        assert not (tmp_path / 'out').exists()


def test_same_names_in_one_folder(tmp_path, detector, shapes):
    image = Image.open(next((shapes / 'images' / 'val').glob('*.png')))
    for name in ('a.png', 'a.jpg', 'sub/a.png'):
        (tmp_path / 'in' / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / 'in' / name)
    assert predict(CASCADE, detector, 'in', '--out', 'out', cwd=tmp_path).returncode == 0
    pictures = tmp_path / 'out' / 'pictures'
    names = {path.relative_to(pictures).as_posix() for path in pictures.rglob('*.jpg')}
    assert names == {'a.jpg', 'a_png.jpg', 'sub/a.jpg'}


def save_small(path, seed=0, size=(64, 96)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(path)


@pytest.fixture(scope='module')
def predictor(detector):
    from fastervit_backbone.inference import Predictor

    return Predictor(CASCADE, detector, threshold=0.2)


def run_prediction(predictor, sources, out, **options):
    report = PredictionRun(predictor, out, dict(a=1), **options).run(find_sources(sources, exclude=out))
    return report, {i['file_name']: i['id'] for i in read(out)['images']}


def test_reruns_with_other_sources(predictor, tmp_path):
    """A file is done once under whatever name; another file of the same name is not mistaken for it."""
    for i, name in enumerate(('a/x.png', 'b/x.png', 'c/sub/x.png')):
        save_small(tmp_path / name, i)
    _, first = run_prediction(predictor, [tmp_path / 'a'], tmp_path / 'one')
    report, both = run_prediction(predictor, [tmp_path / 'b'], tmp_path / 'one')
    assert report.images == 1 and list(both) == ['x.png', 'b/x.png']
    assert len(set(both.values())) == 2 and both['x.png'] == first['x.png']
    assert {p.name for p in (tmp_path / 'one' / 'pictures').iterdir()} == {'x.jpg', 'x_png.jpg'}
    run_prediction(predictor, [tmp_path / 'c'], tmp_path / 'two')
    save_small(tmp_path / 'c' / 'y.png', 5)
    (tmp_path / 'link').symlink_to(tmp_path / 'c')
    sources = [tmp_path / 'c', tmp_path / 'c' / 'sub', tmp_path / 'link']
    report, names = run_prediction(predictor, sources, tmp_path / 'two')
    assert report.images == 1 and sorted(names) == ['sub/x.png', 'y.png']


def test_results_within_the_sources(predictor, tmp_path):
    save_small(tmp_path / 'in' / 'x.png')
    for _ in range(2):
        _, names = run_prediction(predictor, [tmp_path / 'in'], tmp_path / 'in' / 'out')
        assert list(names) == ['x.png']
    save_small(tmp_path / 'in' / 'y.png')
    (tmp_path / 'in' / 'x.png').unlink()
    _, names = run_prediction(predictor, [tmp_path / 'in'], tmp_path / 'in' / 'out', overwrite=True)
    assert list(names) == ['y.png']
    assert [p.name for p in (tmp_path / 'in' / 'out' / 'pictures').iterdir()] == ['y.jpg']


def test_images_that_fail_are_skipped(predictor, segmenter, tmp_path):
    """An image too narrow for the backbone, a very long name, a folder named like a picture."""
    from fastervit_backbone.inference import Predictor

    good = ['good.png', 'z.png', 'é' * 123 + '.png', 'good.jpg/y.png']
    for name in good:
        save_small(tmp_path / 'in' / name)
    save_small(tmp_path / 'in' / 'narrow.png', size=(1, 5000))
    for model in (predictor, Predictor(UPERNET, segmenter)):
        out = tmp_path / f'out_{model.semantic}'
        report, names = run_prediction(model, [tmp_path / 'in'], out, batch=2)
        assert set(names) == set(good)
        assert list(report.failed) == ['narrow.png'] and 'narrow.png' in report.failed['narrow.png']
        pictures = [path for path in (out / 'pictures').rglob('*.jpg') if path.is_file()]
        assert len(pictures) in (3, 4)
        assert not list(out.rglob('.*png*'))


def test_a_full_disk_stops_the_run(predictor, tmp_path, monkeypatch):
    save_small(tmp_path / 'in' / 'x.png')

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('fastervit_backbone.prediction.run.write_image', full)
    with pytest.raises(UserError, match='No space left on device; finished results are kept'):
        run_prediction(predictor, [tmp_path / 'in'], tmp_path / 'out')


@pytest.mark.long
def test_a_truncated_video_is_skipped(predictor, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / 'whole.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(30):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    content = (tmp_path / 'whole.avi').read_bytes()
    (tmp_path / 'cut.avi').write_bytes(content[: len(content) * 2 // 3])
    sources = [tmp_path / 'whole.avi', tmp_path / 'cut.avi']
    report, names = run_prediction(predictor, sources, tmp_path / 'out', batch=4)
    assert len(names) == 30
    assert list(report.failed) == ['cut.avi'] and 'frames can be read' in report.failed['cut.avi']
    assert [p.name for p in (tmp_path / 'out' / 'pictures').iterdir()] == ['whole.mp4']


def test_results_of_a_changed_config_are_not_mixed(detector, shapes, tmp_path):
    arguments = [detector, next((shapes / 'images' / 'val').glob('*.png')), '--out', 'out', '--no-draw']
    assert predict(CASCADE, *arguments, cwd=tmp_path).returncode == 0
    options = ['--cfg-options', 'model.test_cfg.rcnn.max_per_img=1']
    (tmp_path / 'cascade_shapes.py').write_text(
        f'_base_ = {str(CASCADE)!r}\nmodel = dict(test_cfg=dict(rcnn=dict(max_per_img=1)))\n'
    )
    done = predict(tmp_path / 'cascade_shapes.py', *arguments, cwd=tmp_path)
    assert_one_line_error(done, 'another config')
    done = predict(CASCADE, *arguments, *options, cwd=tmp_path)
    assert_one_line_error(done, 'another config, options')


def test_a_log_truncated_anywhere(tmp_path):
    """Whatever byte a kill left as the last one: complete entries are kept, and new ones follow them."""
    log = PredictionLog(tmp_path / 'one', dict(a=1), False)
    for name in ('x', 'ü', 'z'):
        log.add('run', 'xüz'.index(name), dict(source=name, images=[], annotations=[], stem=name))
    with pytest.raises(UserError, match='another run is writing'):
        PredictionLog(tmp_path / 'one', dict(a=1), False)
    log.close()
    content = (tmp_path / 'one' / LOG_NAME).read_bytes()
    for cut in range(len(content) + 1):
        folder = tmp_path / f'cut{cut}'
        folder.mkdir()
        (folder / LOG_NAME).write_bytes(content[:cut])
        again = PredictionLog(folder, dict(a=1), False)
        complete = ['x', 'ü', 'z'][: max(0, content[:cut].count(b'\n') - 1)]
        assert [entry['source'] for entry in again.sorted_entries()] == complete
        again.add('other', 0, dict(source='new', images=[], annotations=[], stem='new'))
        again.close()
        last = PredictionLog(folder, dict(a=1), False)
        assert [e['source'] for e in last.sorted_entries()] == [*complete, 'new'] and 'new' in last
        last.close()


@pytest.mark.short('coco_mini128')
@pytest.mark.parametrize(
    ('name', 'images', 'annotations'),
    [
        ('coco_pixabay61', 'images', 'instances_val.json'),
        ('coco_mini128', 'val2017', 'instances_val2017.json'),
    ],
)
def test_ids_of_real_data(name, images, annotations, real_data, tmp_path):
    """Ids from 0, and 80 with gaps; an RGBA file, images without objects, images not in the json."""
    root = real_data / name
    truth = COCO(str(root / 'annotations' / annotations))
    classes = [c['name'] for c in truth.dataset['categories']]
    config = tmp_path / 'mine.py'
    config.write_text(
        f'_base_ = {str(ROOT / "configs" / "demo" / "dino_shapes.py")!r}\n'
        f'metainfo = dict(classes={classes!r}, palette="random")\n'
        'meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")\n'
        'pipeline = [dict(type="LoadImageFromFile"), dict(type="Resize", scale=(160, 128), keep_ratio=True), '
        'dict(type="PackDetInputs", meta_keys=meta_keys)]\n'
        f'dataset = dict(data_root={str(root)!r}, ann_file={"annotations/" + annotations!r}, '
        f'data_prefix=dict(img={images + "/"!r}), metainfo=metainfo, pipeline=pipeline)\n'
        'test_dataloader = dict(dataset=dataset)\n'
        f'test_evaluator = dict(ann_file={str(root / "annotations" / annotations)!r})\n'
        f'model = dict(bbox_head=dict(num_classes={len(classes)}))\n'
    )
    checkpoint = save_untrained(config, tmp_path / 'model.pth')
    arguments = [config, checkpoint, root / images, '--out', 'out', '--batch', '3', *ALL, '--no-draw']
    done = predict(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = read(tmp_path / 'out')
    predicted, true = ({c['id']: c['name'] for c in d['categories']} for d in (content, truth.dataset))
    assert predicted == true and (0 in predicted) == (name == 'coco_pixabay61')
    known = {i['file_name'].split('/')[-1]: i['id'] for i in truth.dataset['images']}
    ids = {i['file_name']: i['id'] for i in content['images']}
    assert {n: ids[n] for n in known} == known and len(set(ids.values())) == len(ids)
    test = verb('test', config, checkpoint, '--out', 'metrics.json', '--cfg-options', *QUICK, cwd=tmp_path)
    assert test.returncode == 0, test.stderr
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    scored = [a for a in content['annotations'] if a['image_id'] in truth.imgs]
    scorer = COCOeval(truth, truth.loadRes(scored), 'bbox')
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    for i, key in ((0, 'mAP'), (1, 'mAP_50')):
        assert scorer.stats[i] == pytest.approx(metrics[f'coco/bbox_{key}'], abs=1.1e-3)


def test_the_images_of_a_json(detector, shapes, tmp_path):
    """``--annotations``: only its images, with its ids, from SOURCE or the json's own folder; then scored."""
    content = json.loads((shapes / 'annotations' / 'instances_val.json').read_text())
    for image in content['images']:
        image['id'] += 500
    for a in content['annotations']:
        a['image_id'] += 500
    content['images'] = content['images'][1:3]
    kept = {i['id'] for i in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    path = tmp_path / 'test.json'
    path.write_text(json.dumps(content))
    folder = shapes / 'images' / 'val'
    options = ['--annotations', path, '--threshold', '0', '--no-draw']
    run_options = dict(cwd=tmp_path, SHAPES_ROOT=str(shapes))
    done = predict(CASCADE, detector, folder, *options, '--out', 'first', **run_options)
    assert done.returncode == 0, done.stdout + done.stderr
    first = read(tmp_path / 'first')
    predicted, given = ([(i['id'], i['file_name']) for i in d['images']] for d in (first, content))
    assert predicted == given
    done = verb('analyze-results', 'first', path, '--images', folder, '--out', 'analysis', cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / 'analysis' / 'report.html').is_file(), done.stderr
    assert 'removed' not in done.stdout
    shutil.copytree(folder, tmp_path / 'images')  # without SOURCE: in the json's folder, by the names in it
    for image in content['images']:
        image['file_name'] = f'images/{image["file_name"]}'
    path.write_text(json.dumps(content))
    done = predict(CASCADE, detector, *options, '--out', 'second', **run_options)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / 'second')['annotations'] == first['annotations']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'no input: name images, folders or videos, or a json with --annotations'),
        (['--annotations', 'absent.json'], r'--annotations absent\.json: no such file'),
        (['a', 'b', '--annotations', 'test.json'], r'SOURCE must be the folder of its images, but is a b'),
        (['--annotations', 'test.json'], r'gone\.png is not in .* \(1 of 1 images are missing\)'),
    ],
)
def test_missing_input(arguments, message, detector, tmp_path):
    images = [dict(id=1, file_name='gone.png', width=9, height=9)]
    content = dict(images=images, annotations=[], categories=[])
    (tmp_path / 'test.json').write_text(json.dumps(content))
    assert_one_line_error(predict(CASCADE, detector, *arguments, '--out', 'out', cwd=tmp_path), message)
