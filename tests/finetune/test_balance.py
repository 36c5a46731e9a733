"""Repeated images of rare classes: the plan, the data sets and the training agree."""

import json
import math

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.finetune import finetune
from fastervit_backbone.finetune.balance import balance
from fastervit_backbone.train import train
from tests.helpers import IN_PROCESS

OPTIONS = dict(arch='nano', start='nothing', epochs=1, batch=4, size=(64, 96), balance=True)


def test_factors():
    # 10 images: a in all, b in 8, c in 1
    images = [{0, 1} for _ in range(8)] + [{0}, {0, 2}]
    found = balance(images, 'abc')
    assert found.threshold == pytest.approx(0.64 * 0.8)
    assert found.factors == {'c': math.ceil(math.sqrt(0.512 / 0.1))} == {'c': 3}
    assert found.num_images == 12
    assert balance([{0}, {1}, {0, 1}, set()], 'ab') is None and balance([set()], 'ab') is None
    # 1.25 and 2.5 are the limits of one and two
    for rare, factor in ((64, 1), (63, 2), (16, 2), (15, 3)):
        images = [{0} if i < 100 - rare else {0, 1} for i in range(100)]
        wanted = {'b': factor} if factor > 1 else {}
        median = (100 + rare) / 2  # of two classes
        assert 0.64 * median / 100 == pytest.approx(0.32 * (100 + rare) / 100)
        found = balance([*images, *({2} for _ in range(100))], 'abc')  # the median is 100
        assert (found.factors if found else {}) == wanted


def shapes_of(kind, root):
    """Make a data set in which one class is rare."""
    data = make_shapes(root, train=12, val=4, size=(64, 96), seed=3)
    path = data / 'annotations/instances_train.json'
    content = json.loads(path.read_text())
    rare = content['categories'][1]['id']
    first = min(a['image_id'] for a in content['annotations'] if a['category_id'] == rare)
    content['annotations'] = [
        a for a in content['annotations'] if a['category_id'] != rare or a['image_id'] == first
    ]
    path.write_text(json.dumps(content))
    if kind == 'coco':
        val = data / 'annotations/instances_val.json'
        return dict(train=path, val=val, images=[data / 'images/train', data / 'images/val'])
    if kind == 'labels':
        files = sorted((data / 'labels/train').glob('*.png'))
        for number, file in enumerate(files):
            with Image.open(file) as image:
                values = np.asarray(image).copy()
            values[values == 2] = 0
            if number == 5:
                values[:9, :9] = 2
            Image.fromarray(values).save(file)
        folders = [data / 'images/train', data / 'images/val']
        labels = dict(train=data / 'labels/train', val=data / 'labels/val')
        return labels | dict(images=folders, classes=['background', 'circle', 'square', 'triangle'])
    folder = root / 'classes'
    for split in ('train', 'val'):
        for name, number in (('a', 9), ('b', 8), ('c', 1)):
            (folder / split / name).mkdir(parents=True)
            for i in range(number):
                pixels = np.random.default_rng(len(name) + 97 * i + number).integers(0, 256, (64, 64, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f'{split}{i}.png')
    return dict(train=folder / 'train', val=folder / 'val')


@pytest.mark.parametrize('kind', ['coco', 'labels', 'folders'])
def test_a_rare_class_is_shown_more_often(kind, tmp_path, capsys):
    model = dict(coco='retinanet', labels='fpn', folders='classifier')[kind]
    options = OPTIONS | dict(model=model, arch='0' if kind == 'coco' else 'nano')
    options |= shapes_of(kind, tmp_path / 'shapes')
    result = finetune(**options, work_dir=tmp_path / 'made', config_only=True)
    chosen = result.plan.balance
    assert chosen is not None and next(iter(chosen.factors.values())) >= 2
    assert f'{chosen.num_images} images an epoch' in capsys.readouterr().out
    config = Config.fromfile(result.config)
    init_default_scope(config.default_scope)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == chosen.num_images > len(dataset.dataset)
    whole = chosen.num_images / 4
    assert result.plan.steps == (math.ceil(whole) if kind == 'coco' else int(whole))
    with_rare = [i for i in range(len(dataset.dataset)) if 2 in dataset.dataset.get_cat_ids(i)]
    if kind != 'coco':
        shown = sum(dataset.repeat_indices.count(i) for i in with_rare)
        assert shown == len(with_rare) * next(iter(chosen.factors.values()))
    if kind == 'labels':
        train(result.config, work_dir=tmp_path / 'run', options=IN_PROCESS)
        log = next((tmp_path / 'run').glob('*/vis_data/scalars.json')).read_text().splitlines()
        steps = [json.loads(line)['step'] for line in log if '"loss"' in line]
        assert max(steps) <= result.plan.steps


def test_nothing_to_balance_is_said(tmp_path, capsys):
    data = make_shapes(tmp_path / 'data', train=12, val=4, size=(64, 96), seed=3)
    result = finetune(data, **OPTIONS, work_dir=tmp_path / 'run', dry_run=True)
    assert result.plan.balance is None
    assert '--balance: no class is in far fewer images than the others' in capsys.readouterr().out
