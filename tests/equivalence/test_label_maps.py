"""The same label maps written in other ways are the same figures, on every road."""

import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg')
pytest.importorskip('supervision')

from fastervit_backbone.check_data import check_data
from fastervit_backbone.datasets.dataset import open_dataset
from fastervit_backbone.datasets.masks import convert_masks
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.evaluation.label_maps import analyze_label_maps
from fastervit_backbone.export.images import read_images, score
from fastervit_backbone.finetune.read_data import read_training_data
from fastervit_backbone.inference import Predictor
from fastervit_backbone.inference.sources import find_sources
from fastervit_backbone.prediction.run import PredictionRun
from tests.helpers import UPERNET, once
from tests.mm_helpers import save_untrained

CLASSES = ('фон', '三角', 'box', 'circle')
COLORS = {(10, 20, 30): (0, 'a'), (200, 0, 0): (1, 'b'), (0, 200, 0): (2, 'c'), (0, 0, 200): (3, 'd')}
IN_PROCESS = {'test_dataloader.num_workers': 0, 'test_dataloader.persistent_workers': False}


def config_text(root, suffix='.png'):
    data = dict(
        type='LabelMapDataset', data_root='', metainfo=dict(classes=CLASSES, palette=None), img_suffix=suffix
    )
    data['data_prefix'] = dict(img_path=str(root / 'images'), seg_map_path=str(root / 'labels'))
    return (
        f'_base_ = {str(UPERNET)!r}\n'
        f'val_dataloader = dict(dataset={data})\n'
        'test_dataloader = val_dataloader\n'
    )


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Checkpoint of random weights, and label maps that are what it predicts, moved by some pixels."""

    def make(folder):
        source = make_shapes(folder / 'shapes', train=1, val=3, size=(64, 96))
        for part in ('images', 'labels'):
            shutil.copytree(source / part / 'val', folder / part)
        (folder / 'config.py').write_text(config_text(folder))
        save_untrained(UPERNET, folder / 'model.pth', dataset_meta=dict(classes=CLASSES))
        predictor = Predictor(folder / 'config.py', folder / 'model.pth')
        for i, path in enumerate(sorted((folder / 'images').iterdir())):
            label_map = np.roll(predictor([path])[0].label_map, 3 + i, axis=1)
            label_map[:4] = 255
            label_map[4, :4] = range(4)  # every class is there
            Image.fromarray(label_map).save(folder / 'labels' / path.name)
        (folder / 'classes.txt').write_text(''.join(f'{name}\n' for name in CLASSES), encoding='utf-8')
        return folder

    return once(tmp_path_factory, 'equivalence_maps', make)


@pytest.fixture(scope='module')
def predictor(model):
    return Predictor(model / 'config.py', model / 'model.pth')


def each(model, part):
    return [(path, np.asarray(Image.open(path))) for path in sorted((model / part).iterdir())]


def turned(model, out):
    """Images that EXIF turns; their label maps are upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    shutil.copytree(model / 'labels', out / 'labels')
    for path, pixels in each(model, 'images'):
        stored = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, 1)))
        stored.save(out / 'images' / f'{path.stem}.webp', exif=exif, lossless=True)


def of_maps(save):
    def make(model, out):
        shutil.copytree(model / 'images', out / 'images', dirs_exist_ok=True)
        (out / 'labels').mkdir()
        for path, values in each(model, 'labels'):
            save(values, out / 'labels' / path.name)

    return make


def with_palette(values, path):
    picture = Image.fromarray(values, 'P')
    picture.putpalette([v % 256 for v in range(768)])
    picture.save(path)


def in_folders(model, out):
    for part in ('images', 'labels'):
        for i, (path, _) in enumerate(each(model, part)):
            target = out / part / f'city {i}' / path.name
            target.parent.mkdir(parents=True)
            shutil.copy(path, target)
        (out / part / '._hidden.png').write_bytes(b'of an operating system')


def from_colors(model, out):
    """Masks with colors, converted."""
    shutil.copytree(model / 'images', out / 'images', dirs_exist_ok=True)
    colors = COLORS | {(255, 255, 255): (255, 'void')}
    table = np.zeros((256, 3), np.uint8)
    for color, (value, _) in colors.items():
        table[value] = color
    (out / 'colored').mkdir()
    for path, values in each(model, 'labels'):
        Image.fromarray(table[values]).save(out / 'colored' / path.name)
    convert_masks(out / 'colored', out / 'labels', colors=colors)
    (out / 'labels' / 'classes.txt').unlink()


def as_bmp(model, out):
    shutil.copytree(model / 'labels', out / 'labels')
    for path, pixels in each(model, 'images'):
        Image.fromarray(pixels).save(out / 'images' / f'{path.stem}.bmp')


FORMS = {
    'original': of_maps(lambda values, path: Image.fromarray(values).save(path)),
    'a palette': of_maps(with_palette),
    '16 bits': of_maps(lambda values, path: Image.fromarray(values.astype(np.uint16)).save(path)),
    'images turned by EXIF': turned,
    'in folders': in_folders,
    'from colors': from_colors,
    'BMP': as_bmp,
}


@pytest.fixture(scope='module')
def expected(model, predictor, tmp_path_factory):
    figure = by_analysis(predictor, model, tmp_path_factory.mktemp('expected'))
    assert 0.1 < figure < 0.99
    return figure


def by_analysis(predictor, root, out):
    run = PredictionRun(predictor, out / 'predicted', {}, pictures=False, image_ids={})
    assert not run.run(find_sources([root / 'images'])).failed
    for hidden in (root / 'labels').glob('._*'):
        hidden.unlink()
    results = analyze_label_maps(out / 'predicted', root / 'labels', CLASSES, range(len(CLASSES)))
    return float(np.nanmean(results.iou))


@pytest.mark.parametrize('form', FORMS)
def test_a_form_has_the_same_figures_on_every_road(form, model, predictor, expected, tmp_path):
    (tmp_path / 'images').mkdir()
    FORMS[form](model, tmp_path)
    (tmp_path / 'classes.txt').write_text((model / 'classes.txt').read_text())
    assert check_data({}, [], data=str(tmp_path))[1] == 0
    own = read_training_data(open_dataset(tmp_path), tmp_path / 'own', write=False)
    assert own.classes == list(CLASSES) and own.num_images == 2

    (tmp_path / 'config.py').write_text(config_text(tmp_path, own.image_suffix))
    metrics = evaluate(
        tmp_path / 'config.py', model / 'model.pth', work_dir=tmp_path / 'work', options=IN_PROCESS
    )
    assert metrics['mIoU'] / 100 == pytest.approx(expected, abs=1e-4)  # four digits
    images = read_images(tmp_path / 'images', tmp_path / 'labels', 'segmentation', predictor.categories)
    found = predictor(images.paths)
    assert score(found, images, predictor.categories)['mIoU'] == pytest.approx(expected, abs=1e-9)
    assert by_analysis(predictor, tmp_path, tmp_path) == pytest.approx(expected, abs=1e-9)
