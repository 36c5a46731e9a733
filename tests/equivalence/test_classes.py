"""The same class folders written in other ways are the same figures, on every road."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmpretrain')
pytest.importorskip('supervision')

from fastervit_backbone.check_data import check_data
from fastervit_backbone.datasets.dataset import open_dataset
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.evaluation.classes import analyze_classes
from fastervit_backbone.export.images import read_images, score
from fastervit_backbone.finetune.read_data import read_training_data
from fastervit_backbone.inference import Predictor
from fastervit_backbone.inference.sources import find_sources
from fastervit_backbone.prediction.run import PredictionRun
from tests.helpers import ROOT, once
from tests.mm_helpers import save_untrained

CIFAR = ROOT / 'configs' / 'classification' / 'cifar10_nano.py'
CLASSES = ('box', 'фон', '三角')  # as sorted
IN_PROCESS = {
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    'model.backbone.init_cfg': None,
    'model.head.num_classes': 3,
}


def config_text(root):
    data = dict(data_root=str(root), data_prefix='', folders=CLASSES, metainfo=dict(classes=CLASSES))
    return (
        f'_base_ = {str(CIFAR)!r}\n'
        f'val_dataloader = dict(dataset={data})\n'
        'test_dataloader = val_dataloader\n'
        'model = dict(backbone=dict(init_cfg=None), head=dict(num_classes=3))\n'
    )


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Checkpoint of random weights, and images in folders, half of them of the class that it finds."""

    def make(folder):
        (folder / 'config.py').write_text(config_text(folder / 'data'))
        save_untrained(folder / 'config.py', folder / 'model.pth', dataset_meta=dict(classes=CLASSES))
        predictor = Predictor(folder / 'config.py', folder / 'model.pth')
        rng = np.random.default_rng(0)
        for name in CLASSES:
            (folder / 'data' / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.kron(rng.integers(0, 256, (4, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
            found = predictor([pixels])[0]
            label = CLASSES[i // 2 % 3] if i % 2 else CLASSES[found.labels[0]]
            Image.fromarray(pixels).save(folder / 'data' / label / f'{i}.png')
        return folder

    return once(tmp_path_factory, 'equivalence_classes', make)


@pytest.fixture(scope='module')
def predictor(model):
    return Predictor(model / 'config.py', model / 'model.pth')


def links(root, out):
    shutil.copytree(root, out.parent / 'elsewhere')
    out.mkdir()
    for name in CLASSES:
        os.symlink(out.parent / 'elsewhere' / name, out / name)


def turned(root, out):
    exif = Image.Exif()
    exif[0x0112] = 8
    for path in sorted(root.rglob('*.png')):
        target = out / path.relative_to(root).with_suffix('.webp')
        target.parent.mkdir(parents=True, exist_ok=True)
        stored = np.ascontiguousarray(np.rot90(np.asarray(Image.open(path)), -1))
        Image.fromarray(stored).save(target, exif=exif, lossless=True)


def deeper(root, out):
    """In folders of folders, with hidden files and folders beside them."""
    for path in sorted(root.rglob('*.png')):
        target = out / path.relative_to(root).parent / 'a b' / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in CLASSES:
        shutil.copy(out / name / 'a b' / os.listdir(out / name / 'a b')[0], out / name / '._x.png')
    shutil.copytree(out / CLASSES[0], out / '.ipynb_checkpoints')


FORMS = {'original': shutil.copytree, 'links to folders': links, 'turned by EXIF': turned, 'deeper': deeper}


@pytest.fixture(scope='module')
def expected(model, predictor, tmp_path_factory):
    figure = by_analysis(predictor, model / 'data', tmp_path_factory.mktemp('expected'))
    assert 0.3 < figure < 1
    return figure


def by_analysis(predictor, root, out):
    run = PredictionRun(predictor, out / 'predicted', {}, pictures=False, image_ids={})
    assert not run.run(find_sources([root])).failed
    return analyze_classes(json.loads((out / 'predicted' / 'predictions.json').read_text()), root).top1


@pytest.mark.parametrize('form', FORMS)
def test_a_form_has_the_same_figures_on_every_road(form, model, predictor, expected, tmp_path):
    root = tmp_path / 'data'
    FORMS[form](model / 'data', root)
    if form != 'deeper':  # which is recognized by its name only
        assert check_data({}, [], data=str(root))[1] == 0
        own = read_training_data(open_dataset(root), tmp_path / 'own', write=False)
        assert own.classes == list(CLASSES) and own.num_images < 12
    assert check_data(dict(train=str(root)), [])[1] == 0

    (tmp_path / 'config.py').write_text(config_text(root))
    options = dict(work_dir=tmp_path / 'work', options=IN_PROCESS)
    metrics = evaluate(tmp_path / 'config.py', model / 'model.pth', **options)
    assert metrics['accuracy/top1'] / 100 == pytest.approx(expected, abs=1e-6)
    images = read_images(root, None, 'classification', predictor.categories)
    if form != 'deeper':
        assert score(predictor(images.paths), images, predictor.categories)['top-1'] == pytest.approx(
            expected
        )
    assert by_analysis(predictor, root, tmp_path) == pytest.approx(expected)
