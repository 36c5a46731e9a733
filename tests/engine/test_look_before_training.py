"""A run whose train pipeline loses all that could be learned stops in one line; any other is not changed."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.hooks.look_before_training import LookBeforeTrainingHook, look
from fastervit_backbone.engine.runner.sampling import random_state_kept
from fastervit_backbone.train import train
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, FEW_REGIONS, FPN, IN_PROCESS

EPOCH = IN_PROCESS | FEW_REGIONS | {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 2}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=6, val=2, size=(64, 96))


@pytest.fixture
def shapes(whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / 'shapes')
    monkeypatch.setenv('SHAPES_ROOT', str(tmp_path / 'shapes'))
    return tmp_path / 'shapes'


def own(tmp_path, base, pipeline):
    path = tmp_path / 'own.py'
    path.write_text(f'_base_ = {str(base)!r}\ntrain_dataloader = dict(dataset=dict(pipeline={pipeline}))\n')
    return path


LOAD = "dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True%s)"
PACK = "dict(type='PackDetInputs')"


def test_masks_that_are_not_read(shapes, tmp_path):
    assert isinstance(
        json.loads((shapes / 'annotations/instances_train.json').read_text())['annotations'][0][
            'segmentation'
        ],
        dict,
    ), 'RLE'
    pipeline = f'[{LOAD % ", poly2mask=False"}, {PACK}]'
    message = (
        r'^nothing to learn: in 60 tries no object is left after step 1 of the train pipeline, '
        r'LoadAnnotations, which reads no RLE with poly2mask=False: '
    )
    with pytest.raises(UserError, match=message):
        train(own(tmp_path, CASCADE, pipeline), work_dir=tmp_path / 'work', options=EPOCH)


def test_a_step_that_removes_all_objects(shapes, tmp_path):
    pipeline = f"[{LOAD % ''}, dict(type='FilterAnnotations', min_gt_bbox_wh=(500, 500)), {PACK}]"
    with pytest.raises(UserError, match='no object is left after step 2 of the train pipeline, FilterAnno'):
        train(own(tmp_path, CASCADE, pipeline), work_dir=tmp_path / 'work', options=EPOCH)


def test_label_maps_of_one_value(shapes, tmp_path):
    for path in (shapes / 'labels' / 'train').iterdir():
        Image.fromarray(np.ones_like(np.array(Image.open(path)))).save(path)
    with pytest.raises(UserError, match=r'no second value of the label maps is left after step 1 .*LoadAnno'):
        train(FPN, work_dir=tmp_path / 'work', options=IN_PROCESS | {'train_cfg.max_iters': 2})


def test_a_rare_class_is_no_reason_to_stop(capsys):
    """Of many label maps a few are looked at; those with the class may be others."""

    class Maps:
        def __len__(self):
            return 3000

        def get_data_info(self, index):
            return dict(index=index)

    class LoadAnnotations:
        def __call__(self, results):
            image = torch.arange(12).reshape(1, 3, 4)
            return dict(results, gt_seg_map=np.zeros((3, 4), np.uint8), inputs=image)

    look(Maps(), [LoadAnnotations()])
    assert 'note: 60 of 3000 label maps hold a single value' in capsys.readouterr().out


def test_images_of_one_value(shapes, tmp_path):
    for path in (shapes / 'images' / 'train').iterdir():
        Image.new('RGB', (96, 64), (7, 7, 7)).save(path)
    with pytest.raises(UserError, match='in 60 tries an image comes out of the train pipeline with a single'):
        train(own(tmp_path, CASCADE, f'[{LOAD % ""}, {PACK}]'), work_dir=tmp_path / 'work', options=EPOCH)


def test_maps_of_one_class_each_are_fine(shapes, tmp_path):
    for i, path in enumerate(sorted((shapes / 'labels' / 'train').iterdir())):
        labels = np.full_like(np.array(Image.open(path)), 255)
        labels[:20] = i % 3
        Image.fromarray(labels).save(path)
    options = IN_PROCESS | {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 9}
    train(FPN, work_dir=tmp_path / 'work', options=options)
    assert (tmp_path / 'work' / 'iter_2.pth').is_file()


def test_a_crop_that_misses_often(shapes, tmp_path):
    crop = "dict(type='RandomCrop', crop_size=(48, 48), allow_negative_crop=True)"
    train(own(tmp_path, CASCADE, f'[{LOAD % ""}, {crop}, {PACK}]'), work_dir=tmp_path / 'work', options=EPOCH)
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()


def test_random_numbers_stay():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with random_state_kept():
        random.random(), np.random.rand(), torch.rand(1)
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())


def test_a_run_is_the_same_with_it(shapes, tmp_path, monkeypatch):
    one = train(CASCADE, work_dir=tmp_path / 'one', seed=0, options=EPOCH)
    monkeypatch.setattr(LookBeforeTrainingHook, 'before_train', lambda *_: None)
    other = train(CASCADE, work_dir=tmp_path / 'other', seed=0, options=EPOCH)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
