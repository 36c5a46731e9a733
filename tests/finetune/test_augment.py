"""Augmented images keep their annotations, and the sheet that is written before training shows them."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.registry import DATASETS, init_default_scope

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.runner.sampling import FaultTolerantDataset, SeededIndex
from fastervit_backbone.finetune import finetune, flat_config
from fastervit_backbone.finetune.augmented import write_augmented
from fastervit_backbone.finetune.flat_config import build_config
from fastervit_backbone.finetune.plan import make_plan
from fastervit_backbone.finetune.training_data import TrainingData
from fastervit_backbone.utils.errors import UserError

SIZE = (96, 160)
#: x1, y1, x2, y2 of a bright rectangle in a dark image of SIZE.
BOX = (24, 16, 72, 48)


@pytest.fixture(scope='module')
def rectangle(tmp_path_factory):
    """One image with one bright rectangle, as COCO json and as label map."""
    root = tmp_path_factory.mktemp('rectangle')
    x1, y1, x2, y2 = BOX
    label_map = np.zeros(SIZE, np.uint8)
    label_map[y1:y2, x1:x2] = 1
    for folder in ('images', 'labels'):
        (root / folder).mkdir()
    Image.fromarray(label_map).save(root / 'labels' / 'a.png')
    Image.fromarray(np.repeat(label_map[..., None] * 180 + 20, 3, 2)).save(root / 'images' / 'a.png')
    polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
    annotation = dict(id=1, image_id=1, category_id=1, iscrowd=0, segmentation=[polygon])
    annotation |= dict(bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1))
    content = dict(
        images=[dict(id=1, file_name='a.png', height=SIZE[0], width=SIZE[1])],
        annotations=[annotation],
        categories=[dict(id=1, name='rectangle')],
    )
    (root / 'a.json').write_text(json.dumps(content))
    return root


def config_of(root, kind, seed=0, **options):
    annotations = root / ('a.json' if kind == 'coco' else 'labels')
    data = TrainingData(
        kind=kind,
        train=annotations,
        val=annotations,
        image_folders=(root / 'images', root / 'images'),
        classes=['rectangle'] if kind == 'coco' else ['nothing', 'rectangle'],
        has_masks=True,
        num_images=100,
        num_empty=0,
        median_size=SIZE,
        image_suffix='.png',
    )
    model = 'cascade' if kind == 'coco' else 'fpn'
    return build_config(
        data, make_plan(data, model=model, arch='nano', size=SIZE, batch=4, **options), seed=seed
    )


def samples(config, number=30):
    init_default_scope(config.default_scope)
    dataset = FaultTolerantDataset(DATASETS.build(config.train_dataloader.dataset))
    for seed in range(number):
        sample = dataset[SeededIndex(0, (seed, 0, 0))]
        yield sample['inputs'].numpy().astype(float).mean(0), sample['data_samples']


def is_bright(pixels):
    return pixels > (pixels.min() + pixels.max()) / 2


@pytest.mark.parametrize('augment', ['none', 'light', 'strong'])
def test_boxes_and_masks_stay_on_their_object(augment, rectangle):
    shapes, seen = set(), 0
    for pixels, sample in samples(config_of(rectangle, 'coco', augment=augment)):
        shapes.add(pixels.shape)
        objects = sample.gt_instances
        if not len(objects):  # cropped away
            assert augment == 'strong' and np.ptp(pixels) < 120
            continue
        rows, columns = np.nonzero(is_bright(pixels))
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(objects.bboxes.numpy()[0], extent, atol=1.6)
        mask = objects.masks.to_ndarray()[0].astype(bool)
        assert mask.shape == pixels.shape
        inside, either = (mask & is_bright(pixels)).sum(), (mask | is_bright(pixels)).sum()
        assert inside / either > 0.8  # a row of pixels at half the size
        seen += 1
    assert seen >= 20
    assert (len(shapes) == 1) == (augment == 'none')


@pytest.mark.parametrize('augment', ['none', 'light', 'strong'])
def test_label_maps_stay_on_their_pixels(augment, rectangle):
    seen = 0
    for pixels, sample in samples(config_of(rectangle, 'labels', augment=augment)):
        values = sample.gt_sem_seg.data[0].numpy()
        assert values.shape == pixels.shape and set(np.unique(values)) <= {0, 1, 255}
        if (values == 1).sum() < 100 or (values == 0).sum() < 100:
            continue
        known = values != 255
        assert ((values == 1) == is_bright(pixels))[known].mean() > 0.97
        seen += 1
    assert seen >= 20


@pytest.mark.parametrize('kind', ['coco', 'labels'])
@pytest.mark.parametrize('augment', ['light', 'strong'])
def test_no_flip_never_mirrors(kind, augment, rectangle, tmp_path):
    left = np.linspace(220, 20, SIZE[1]).astype(np.uint8)
    root = tmp_path / 'data'
    (root / 'images').mkdir(parents=True)
    for name in ('a.json', 'labels'):
        (root / name).symlink_to(rectangle / name)
    Image.fromarray(np.repeat(np.tile(left, (SIZE[0], 1))[..., None], 3, 2)).save(root / 'images' / 'a.png')

    def sides(flip):
        config = config_of(root, kind, augment=augment, flip=flip)
        return {bool(p[:, :10].mean() > p[:, -10:].mean()) for p, _ in samples(config)}

    assert sides(True) == {True, False}
    assert sides(False) == {True}


def test_the_sheet_follows_from_the_seed(rectangle, tmp_path):
    sheets = []
    for name, seed in (('a.png', 0), ('b.png', 0), ('c.png', 1)):
        random.seed(name)
        torch.manual_seed(seed + 5)
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        write_augmented(config_of(rectangle, 'coco', seed=seed, augment='strong'), tmp_path / name)
        now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        assert states == now  # training draws what it would have drawn without the sheet
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_a_run_writes_its_sheet_and_its_options(tmp_path, monkeypatch):
    shapes = make_shapes(tmp_path / 'shapes', train=6, val=2, size=(64, 96))
    options = dict(arch='nano', augment='strong', flip=False, accumulate=2, log=['tensorboard'], batch=2)
    run = tmp_path / 'run'
    annotations = shapes / 'annotations'
    splits = [annotations / f'instances_{split}.json' for split in ('train', 'val')]
    images = [shapes / 'images' / split for split in ('train', 'val')]
    data = dict(train=splits[0], val=splits[1], images=images)
    result = finetune(**data, work_dir=run, config_only=True, **options)
    with Image.open(run / 'augmented.jpg') as sheet:
        assert sheet.size[0] == 4 * 420
    text = result.config.read_text()
    assert 'accumulative_counts=2' in text and 'TensorboardVisBackend' in text and 'RandomFlip' not in text
    assert result.plan.accumulate == 2 and '2 x 2 accumulated' in text
    monkeypatch.setattr(flat_config, 'find_spec', lambda name: None)
    for wrong, message in (
        (dict(augment='weak'), '--augment weak: choose one of none, light, strong'),
        (dict(log=['paper']), '--log paper: choose one of tensorboard, wandb, mlflow'),
        (dict(log=['mlflow']), '--log mlflow: not installed: pip install mlflow'),
        (dict(accumulate=0, log=[]), '--accumulate 0: must be at least 1'),
    ):
        with pytest.raises(UserError, match=message):
            finetune(**data, work_dir=tmp_path / 'other', **(options | wrong))
