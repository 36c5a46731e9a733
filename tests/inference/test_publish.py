"""A published folder says what the run's model says, and nothing about the machine."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open

pytest.importorskip('mmdet')


from fastervit_backbone import ARCHS
from fastervit_backbone.checkpoints.declared import Declared, read_declared
from fastervit_backbone.finetune import finetune
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.publish import publish, upload
from fastervit_backbone.utils.errors import UserError
from tests.helpers import UPERNET, assert_one_line_error, once
from tests.processes import verb


@pytest.fixture(scope='module')
def run(shapes, tmp_path_factory):
    """A short training of a detector."""
    splits = [shapes / 'annotations' / f'instances_{split}.json' for split in ('train', 'val')]
    images = [shapes / 'images' / split for split in ('train', 'val')]
    short = partial(finetune, train=splits[0], val=splits[1], images=images, arch='nano', epochs=1, batch=2)
    return once(tmp_path_factory, 'run', lambda folder: short(work_dir=folder / 'my_run').best.parent)


@pytest.fixture(scope='module')
def folder(run, tmp_path_factory):
    return publish(run, tmp_path_factory.mktemp('published') / 'model')


def same(first, second):
    for a, b in zip(first, second, strict=True):
        for key in ('boxes', 'scores', 'labels'):
            assert np.array_equal(getattr(a, key), getattr(b, key)), key
        assert a.masks == b.masks


def test_the_folder_is_the_model(run, folder, shapes, monkeypatch):
    assert sorted(p.name for p in folder.iterdir()) == ['README.md', 'config.py', 'model.safetensors']
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # who may read one may read all
    images = sorted((shapes / 'images' / 'val').glob('*.png'))[:2]
    expected = Predictor(run / 'finetune.py', run / 'best.pth', threshold=0)
    published = Predictor(folder, threshold=0)
    assert published.categories == expected.categories and published.categories.own
    same(published(images), expected(images))
    assert len(published(images)[0]) > 0

    from mmdet.apis import inference_detector, init_detector

    real = torch.load
    monkeypatch.setattr(torch, 'load', lambda *a, **k: real(*a, **(k | dict(weights_only=True))))
    stock = init_detector(str(folder / 'config.py'), str(folder / 'model.safetensors'), device='cpu')
    assert stock.dataset_meta['classes'] == list(expected.categories.names)
    found = inference_detector(stock, str(images[0])).pred_instances
    order = found.scores > 0.05
    np.testing.assert_allclose(
        np.sort(found.scores[order].numpy()),
        np.sort(published([images[0]])[0].scores[published([images[0]])[0].scores > 0.05]),
        rtol=1e-5,
    )


def test_card_and_config_name_no_folder_of_the_machine(run, folder, shapes):
    card, config = ((folder / name).read_text() for name in ('README.md', 'config.py'))
    for text in (card, config):
        assert str(run.parent) not in text and str(shapes.parent) not in text and 'http' not in text
    assert "this package's nano weights (Apache-2.0)" in card and card.startswith(
        '---\nlicense: apache-2.0\n'
    )
    assert 'circle, square, triangle' in card and '| coco/segm_mAP |' in card
    with safe_open(folder / 'model.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['meta'])['dataset_meta']['category_ids']
        assert read_declared(file.metadata()) == Declared(ARCHS['nano'], 3)


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ("load_from = 'https://huggingface.co/ahatamiz/x.pth'", 'license: cc-by-nc-sa-4.0'),
        (
            "load_from = '/somewhere/start.pth'",
            'from start.pth: the license of those weights applies',
        ),
    ],
)
def test_the_license_is_that_of_the_start(line, expected, run, tmp_path):
    copied = tmp_path / 'run'
    shutil.copytree(run, copied)
    with (copied / 'finetune.py').open('a') as file:
        file.write(f'\n{line}\n')
    card = (publish(copied, tmp_path / 'out') / 'README.md').read_text()
    assert expected in card and '/somewhere' not in card


def test_a_segmenter_from_a_work_dir(segmenter, tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'upernet.py').write_text(f'_base_ = {str(UPERNET)!r}\n')
    shutil.copy(segmenter, run / 'iter_1.pth')
    folder = publish(run, tmp_path / 'out')
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    label_maps = [p([pixels])[0].label_map for p in (Predictor(folder), Predictor(UPERNET, segmenter))]
    assert np.array_equal(*label_maps)
    assert 'no log of an evaluation' in (folder / 'README.md').read_text()


def test_figures_are_those_of_the_checkpoint(run, tmp_path):
    copied = tmp_path / 'run'
    shutil.copytree(run, copied)
    log = next(copied.glob('*/vis_data/scalars.json'))
    for epoch, value in ((1, 0.25), (2, 0.125)):
        line = {'coco/segm_mAP': value, 'step': epoch}
        log.write_text(log.read_text() + json.dumps(line) + '\n')
    assert '| coco/segm_mAP | 0.25 |' in (publish(copied, tmp_path / 'a') / 'README.md').read_text()
    content = torch.load(copied / 'best.pth', weights_only=False)
    content['meta']['epoch'] = 7  # not evaluated
    torch.save(content, copied / 'other.pth')
    card = publish(copied, tmp_path / 'b', checkpoint=copied / 'other.pth') / 'README.md'
    assert 'no log of an evaluation' in card.read_text()


def test_the_command_and_its_errors(run, shapes, tmp_path, monkeypatch):
    done = verb('publish', run, 'model', cwd=tmp_path)
    assert done.returncode == 0 and 'written: model' in done.stdout, done.stderr
    done = verb('predict', 'model', shapes / 'images' / 'val', '--out', 'predictions', cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / 'predictions' / 'predictions.json').is_file(), done.stderr
    offline, image = dict(HF_HUB_OFFLINE='1'), next((shapes / 'images' / 'val').glob('*.png'))
    predict = ['predict', 'hf://someone/nothing', image, '--out', 'x']
    done = verb(*predict, cwd=tmp_path, **offline)
    assert_one_line_error(done, 'hf://someone/nothing: .*check the id')
    for folder, out, message in (
        (run, 'model', 'model exists: name a new folder'),
        (tmp_path / 'absent', 'x', 'no such folder: name the work dir'),
        (tmp_path, 'x', 'expected one config in it, found none'),
    ):
        with pytest.raises(UserError, match=message):
            publish(folder, tmp_path / out)
    assert not (tmp_path / 'x').exists()
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(UserError, match=r'--upload someone/name: .*is complete; check the id'):
        upload(tmp_path / 'model', 'someone/name')
