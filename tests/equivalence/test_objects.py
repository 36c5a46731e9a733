"""The same objects written in other ways are the same figures, on every road."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmdet')
pytest.importorskip('supervision')

from fastervit_backbone.check_data import check_data
from fastervit_backbone.datasets.dataset import open_dataset
from fastervit_backbone.datasets.images import read_image
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.evaluation.coco_files import read_detections, read_truth
from fastervit_backbone.evaluation.objects import analyze_objects
from fastervit_backbone.export.images import Images, score
from fastervit_backbone.finetune.read_data import read_training_data
from fastervit_backbone.inference import Predictor
from fastervit_backbone.inference.sources import choose_sources
from fastervit_backbone.prediction.run import PredictionRun
from fastervit_backbone.publish import publish
from fastervit_backbone.structures.polygons import polygons_of
from fastervit_backbone.structures.prediction import decode_mask
from fastervit_backbone.utils.errors import UserError
from tests.equivalence.forms import FORMS, REFUSED, content_of, write
from tests.helpers import CASCADE, FEW_REGIONS, once
from tests.mm_helpers import save_untrained

#: Not ASCII, and in no alphabetical order.
CLASSES = ('фигура', '三角', 'box')
IN_PROCESS = {'test_dataloader.num_workers': 0, 'test_dataloader.persistent_workers': False}
OPTIONS = FEW_REGIONS | {'model.test_cfg.rcnn.score_thr': 0.0}


def config_text(path, images, classes=CLASSES):
    data = dict(
        ann_file=str(path), data_root='', data_prefix=dict(img=str(images)), metainfo=dict(classes=classes)
    )
    return (
        f'_base_ = {str(CASCADE)!r}\n'
        f'val_dataloader = dict(dataset={data})\n'
        'test_dataloader = val_dataloader\n'
        f'val_evaluator = dict(ann_file={str(path)!r})\n'
        'test_evaluator = val_evaluator\n'
    )


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Checkpoint of random weights, and data whose objects are some of those that it finds, moved a bit."""

    def make(folder):
        source = make_shapes(folder / 'shapes', train=1, val=4, size=(64, 96))
        (folder / 'images').mkdir()
        for i, path in enumerate(sorted((source / 'images' / 'val').glob('*.png'))):
            with Image.open(path) as image:
                image.convert('RGB').crop((0, 0, 96 - 8 * i, 64)).save(folder / 'images' / f'{i}.png')
        names = sorted(p.name for p in (folder / 'images').iterdir())
        entries = [dict(id=i, file_name=n, width=96 - 8 * i, height=64) for i, n in enumerate(names)]
        content = dict(
            images=[e | dict(id=e['id'] + 1) for e in entries],
            categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)],
            annotations=[],
        )
        write(folder, content, folder)
        (folder / 'other.json').rename(folder / 'truth.json')
        (folder / 'config.py').write_text(config_text(folder / 'truth.json', folder / 'images'))
        meta = dict(classes=CLASSES, category_ids=[1, 2, 3])
        save_untrained(CASCADE, folder / 'model.pth', dataset_meta=meta)
        predictor = Predictor(folder / 'config.py', folder / 'model.pth', threshold=0, options=OPTIONS)
        for image in content['images']:
            found = predictor([folder / 'images' / image['file_name']])[0]
            content['annotations'] += objects_near(found, image, len(content['annotations']))
        content['annotations'].append(one_of_the_last_class(len(content['annotations'])))
        (folder / 'truth.json').write_text(json.dumps(content))
        return folder

    return once(tmp_path_factory, 'equivalence', make)


def objects_near(found, image, number):
    """Every second object of some size, its outline moved by a pixel."""
    entries = []
    for i in range(0, len(found), 2):
        mask = np.roll(decode_mask(found.masks[i]), i % 3, axis=1)
        polygons = [p for p in polygons_of(mask) if len(p) >= 8]
        if not polygons:
            continue
        polygon = max(polygons, key=len)
        xs, ys = polygon[::2], polygon[1::2]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        if min(box[2:]) < 3:
            continue
        area = abs(sum(xs[j - 1] * ys[j] - xs[j] * ys[j - 1] for j in range(len(xs)))) / 2
        a = dict(id=number + len(entries) + 1, image_id=image['id'], category_id=int(found.labels[i]) + 1)
        entries.append(a | dict(bbox=box, area=area, iscrowd=0, segmentation=[polygon]))
    return entries


def one_of_the_last_class(number):
    """For forms that list only classes that have an object."""
    a = dict(id=number + 1, image_id=1, category_id=3, bbox=[4, 4, 9, 8], area=72, iscrowd=0)
    return a | dict(segmentation=[[4, 4, 13, 4, 13, 12, 4, 12]])


@pytest.fixture(scope='module')
def predictor(model):
    return Predictor(model / 'config.py', model / 'model.pth', threshold=0, options=OPTIONS)


def by_test(model, predictor, path, images, out):
    """``fastervit test``, with the classes in the order of the json."""
    names = [c['name'] for c in json.loads(path.read_text(encoding='utf-8-sig'))['categories']]
    (out / 'config.py').write_text(config_text(path, images, tuple(n for n in names if n in CLASSES)))
    metrics = evaluate(
        out / 'config.py', model / 'model.pth', work_dir=out / 'work', options=OPTIONS | IN_PROCESS
    )
    return [metrics[f'coco/{kind}_mAP{at}'] for kind in ('bbox', 'segm') for at in ('', '_50')]


def by_analysis(predictor, path, images, out, batch=1):
    """``fastervit predict --annotations`` and ``analyze-results``."""
    sources, ids = choose_sources([images], path)
    run = PredictionRun(predictor, out / f'predicted{batch}', {}, batch=batch, pictures=False, image_ids=ids)
    assert not run.run(sources).failed
    found = read_detections(out / f'predicted{batch}' / 'predictions.json')
    figures = []
    for kind in ('bbox', 'segm'):
        summary = analyze_objects(found, read_truth(path, kind), kind=kind).summary
        figures += [summary['AP'], summary['AP50']]
    return figures


def by_export(predictor, path, images, out, read=read_image):
    """The gate of ``fastervit export``."""
    truth = read_truth(path)
    ids = sorted(truth.imgs)
    files = [images / truth.imgs[i]['file_name'] for i in ids]
    found = predictor([read(f) for f in files]) if read is not read_image else predictor(files)
    metrics = score(found, Images(files, truth=truth, ids=ids), predictor.categories)
    return [metrics['box AP'], metrics['mask AP']]


def rgb_array(path):
    return read_image(path)[..., ::-1].copy()


@pytest.fixture(scope='module')
def expected(model, predictor, tmp_path_factory):
    out = tmp_path_factory.mktemp('expected')
    figures = by_analysis(predictor, model / 'truth.json', model / 'images', out)
    assert min(figures) > 0.1 and len(content_of(model)['annotations']) > 8, figures
    return figures


@pytest.mark.parametrize('form', ['original', *FORMS])
def test_a_form_has_the_same_figures_on_every_road(form, model, predictor, expected, tmp_path):
    place = (model / 'truth.json', model / 'images') if form == 'original' else FORMS[form](model, tmp_path)
    if isinstance(place, tuple):
        path, images = place
        errors = check_data({}, [str(images)], data=str(path))[1]
        dataset = open_dataset(path, [images])
    else:
        errors, dataset = check_data({}, [], data=str(place))[1], open_dataset(place)
        (split,) = dataset.splits.values()
        path, images = write(tmp_path, split.content, split.images)
    assert errors == 0
    own = read_training_data(dataset, tmp_path / 'own', write=False)
    assert own.has_masks and set(own.classes) - {'unused'} == set(CLASSES)
    counts = next(iter(dataset.splits.values())).counts()
    assert counts.total() == len(content_of(model)['annotations'])

    boxes_and_masks = expected[::2]
    assert by_test(model, predictor, path, images, tmp_path) == pytest.approx(
        expected, abs=6e-4
    )  # three digits
    assert by_analysis(predictor, path, images, tmp_path) == pytest.approx(expected, abs=1e-9)
    assert by_export(predictor, path, images, tmp_path) == pytest.approx(boxes_and_masks, abs=1e-9)


def as_pillow(path):
    return Image.open(path)


def test_batches_arrays_and_a_published_folder(model, predictor, expected, tmp_path):
    path, images = model / 'truth.json', model / 'images'
    assert by_analysis(predictor, path, images, tmp_path, batch=6) == pytest.approx(expected, abs=1e-9)
    for read in (rgb_array, as_pillow):
        assert by_export(predictor, path, images, tmp_path, read) == pytest.approx(expected[::2], abs=1e-9)
    (tmp_path / 'run').mkdir()
    shutil.copy(model / 'config.py', tmp_path / 'run' / 'config.py')
    shutil.copy(model / 'model.pth', tmp_path / 'run' / 'best_coco_segm_mAP_epoch_1.pth')
    publish(tmp_path / 'run', tmp_path / 'published')
    published = Predictor(tmp_path / 'published', threshold=0, options=OPTIONS)
    assert by_analysis(published, path, images, tmp_path / 'p') == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('form', REFUSED)
def test_a_form_is_refused_in_the_same_words(form, model, tmp_path):
    content = content_of(model)
    REFUSED[form][0](content)
    path, images = write(tmp_path, content, model / 'images')
    _, errors = check_data({}, [str(images)], data=str(path), record=tmp_path / 'found.json')
    (message,) = [
        f['message']
        for f in json.loads((tmp_path / 'found.json').read_text())
        if f['kind'] == REFUSED[form][1]
    ]
    (tmp_path / 'config.py').write_text(config_text(path, images))
    roads = (
        lambda: read_training_data(open_dataset(path, [images]), tmp_path / 'own', write=False),
        partial(
            evaluate,
            tmp_path / 'config.py',
            model / 'model.pth',
            work_dir=tmp_path / 'work',
            options=IN_PROCESS,
        ),
    )
    for road in roads:
        with pytest.raises(UserError) as error:
            road()
        assert errors and message in str(error.value) and '\n' not in str(error.value)
