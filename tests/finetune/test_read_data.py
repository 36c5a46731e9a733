"""One data set in every layout gives the same images, objects and classes."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('supervision')

from mmengine.registry import TRANSFORMS, init_default_scope

from fastervit_backbone.check_data import check_data
from fastervit_backbone.datasets.dataset import open_dataset
from fastervit_backbone.datasets.pixel_format import PixelFormat
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.load_image import use_one_decoder
from fastervit_backbone.finetune import finetune
from fastervit_backbone.finetune.read_data import read_training_data
from fastervit_backbone.finetune.split import choose_val
from fastervit_backbone.finetune.training_data import USED, TrainingData
from fastervit_backbone.inference.inputs import pixels_of_config
from fastervit_backbone.utils.errors import UserError
from tests.helpers import assert_one_line_error
from tests.processes import verb

CLASSES = ('circle', 'square', 'triangle')


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=12, val=4, size=(64, 96))


def read_place(place, folder, fraction=0.2, seed=0) -> TrainingData:
    return read_training_data(open_dataset(place, (), USED), folder, val_fraction=fraction, seed=seed)


def content(root, split):
    return json.loads((root / f'annotations/instances_{split}.json').read_text())


def boxes(path):
    """Class name and rounded box of every object, by image."""
    coco = json.loads(Path(path).read_text())
    names = {c['id']: c['name'] for c in coco['categories']}
    files = {i['id']: Path(i['file_name']).stem for i in coco['images']}
    objects = [
        (files[a['image_id']], names[a['category_id']], *(round(v) for v in a['bbox']))
        for a in coco['annotations']
    ]
    return sorted(objects), sorted(files.values())


def as_roboflow(root, out):
    for split, folder in (('train', 'train'), ('val', 'valid')):
        shutil.copytree(root / 'images' / split, out / folder)
        (out / folder / '_annotations.coco.json').write_text(json.dumps(content(root, split)))
    return out


def as_yolo(root, out):
    for split in ('train', 'val'):
        coco = content(root, split)
        shutil.copytree(root / 'images' / split, out / 'images' / split)
        (out / 'labels' / split).mkdir(parents=True)
        for image in coco['images']:
            lines = []
            for a in (a for a in coco['annotations'] if a['image_id'] == image['id']):
                x, y, w, h = a['bbox']
                W, H = image['width'], image['height']
                lines.append(f'{a["category_id"] - 1} {(x + w / 2) / W} {(y + h / 2) / H} {w / W} {h / H}')
            (out / 'labels' / split / f'{Path(image["file_name"]).stem}.txt').write_text('\n'.join(lines))
    (out / 'data.yaml').write_text(f'train: images/train\nval: images/val\nnames: {list(CLASSES)}\n')
    return out


def as_voc(root, out):
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (out / folder).mkdir(parents=True)
    for split in ('train', 'val'):
        coco, stems = content(root, split), []
        for image in coco['images']:
            stem = f'{split}_{Path(image["file_name"]).stem}'
            stems.append(stem)
            shutil.copy(root / 'images' / split / image['file_name'], out / 'JPEGImages' / f'{stem}.png')
            objects = ''
            for a in (a for a in coco['annotations'] if a['image_id'] == image['id']):
                x, y, w, h = a['bbox']
                sides = dict(xmin=x + 1, ymin=y + 1, xmax=x + w + 1, ymax=y + h + 1)
                corners = ''.join(f'<{side}>{value}</{side}>' for side, value in sides.items())
                name = CLASSES[a['category_id'] - 1]
                objects += f'<object><name>{name}</name><bndbox>{corners}</bndbox></object>'
            (out / 'Annotations' / f'{stem}.xml').write_text(f'<annotation>{objects}</annotation>')
        (out / 'ImageSets/Main' / f'{split}.txt').write_text('\n'.join(stems))
    return out


LAYOUTS = dict(coco=lambda root, out: root, roboflow=as_roboflow, yolo=as_yolo, voc=as_voc)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_is_the_same_data(layout, shapes, tmp_path, capsys):
    place = read_place(LAYOUTS[layout](shapes, tmp_path / 'set'), tmp_path / 'out')
    for split, path, folder in zip(
        ('train', 'val'), (place.train, place.val), place.image_folders, strict=True
    ):
        found, images = boxes(path)
        expected, names = boxes(shapes / f'annotations/instances_{split}.json')
        prefix = f'{split}_' if layout == 'voc' else ''
        assert found == sorted((prefix + name, *rest) for name, *rest in expected)
        assert images == [prefix + name for name in names]
        coco = json.loads(path.read_text())
        assert all((folder / image['file_name']).is_file() for image in coco['images'])
    assert place.lines[-1] == 'validating on val' and place.classes == list(CLASSES)

    result = finetune(data=tmp_path / 'set' if layout != 'coco' else shapes, arch='nano', dry_run=True)
    assert result.plan.base.stem.startswith('cascade') and result.plan.size == (64, 96)
    assert 'circle' in capsys.readouterr().out
    assert not (tmp_path / 'work_dirs').exists()


def test_label_maps_and_class_folders(shapes, tmp_path, capsys):
    root = tmp_path / 'maps'
    for kind in ('images', 'labels'):
        shutil.copytree(shapes / kind / 'train', root / kind)
    (root / 'classes.txt').write_text('background\n' + '\n'.join(CLASSES) + '\n')
    place = read_place(root, tmp_path / 'out', 0.25)
    names = [
        sorted(p.name for p in folder.iterdir()) for folder in (place.train, place.val, *place.image_folders)
    ]
    assert names[0] == names[2] and names[1] == names[3] and len(names[1]) == 3
    assert sorted(names[0] + names[1]) == sorted(p.name for p in (root / 'labels').iterdir())
    assert place.classes == ['background', *CLASSES]
    result = finetune(data=root, arch='nano', work_dir=tmp_path / 'work', dry_run=True)
    assert result.plan.base.stem.startswith('upernet') and not (tmp_path / 'work').exists()

    root = tmp_path / 'classes'
    for i, name in enumerate(('red', 'blue')):
        (root / name).mkdir(parents=True)
        for j in range(5):
            Image.fromarray(np.full((40, 40, 3), 20 * i + j, np.uint8)).save(root / name / f'{j}.png')
    place = read_place(root, tmp_path / 'out2')
    assert [len(list((place.val / name).iterdir())) for name in ('red', 'blue')] == [1, 1]
    assert finetune(data=root, arch='nano', dry_run=True).plan.base.parent.stem == 'classification'


def test_a_part_of_training_becomes_validation(shapes, tmp_path):
    path = shapes / 'annotations/instances_train.json'
    places = [
        read_place(path, tmp_path / str(i), fraction, seed)
        for i, (fraction, seed) in enumerate(((0.25, 0), (0.25, 0), (0.25, 1)))
    ]
    parts = [[set(boxes(p)[1]) for p in (place.train, place.val)] for place in places]
    assert parts[0] == parts[1] != parts[2]
    for train, val in parts:
        assert not train & val and len(train | val) == 12 and 2 <= len(val) <= 5
    assert any('no validation split: ' in line for line in places[0].lines)
    val_classes = {name for _, name, *_ in boxes(places[0].val)[0]}
    assert val_classes == set(CLASSES)


def test_the_choice_is_stratified_and_keeps_identical_images_together():
    rng = np.random.default_rng(0)
    images = {
        f'{i}': {int(c) for c in rng.choice(4, size=rng.integers(0, 3), p=[0.6, 0.3, 0.08, 0.02])}
        for i in range(400)
    }
    digests = {name: str(int(name) // 2) for name in images}  # pairs
    chosen = choose_val(images, digests, 0.2, 0)
    assert all((str(2 * i) in chosen) == (str(2 * i + 1) in chosen) for i in range(200))
    total, val = (Counter(c for name in names for c in images[name]) for names in (images, chosen))
    assert all(0.1 < val[c] / total[c] < 0.45 for c in total), (total, val)
    assert choose_val({'a': {0}, 'b': {0}}, dict(a='a', b='b'), 0.01, 0) in ({'a'}, {'b'})
    with pytest.raises(UserError, match='1 different images'):
        choose_val({'a': {0}, 'b': {0}}, dict(a='same', b='same'), 0.5, 0)


def test_errors(shapes, tmp_path):
    for arguments, message in (
        (dict(), 'name one data set'),
        (dict(data=shapes, train='a.json'), 'name one data set'),
        (dict(train='a.json'), '--val is missing'),
        (dict(data=shapes, val_fraction=1.5), r'--val-fraction 1\.5'),
        (dict(data=tmp_path), 'holds no COCO json'),
        (dict(data=shapes, model='yolo'), '--model yolo: choose one of'),
    ):
        with pytest.raises(UserError, match=message):
            finetune(**arguments, dry_run=True)
    done = verb('finetune', tmp_path / 'missing', '--dry-run', cwd=tmp_path)
    assert_one_line_error(done, 'no file or folder at')


def test_a_broken_json_without_a_validation_split(shapes, tmp_path):
    """It is checked before it is split."""
    content = json.loads((shapes / 'annotations' / 'instances_train.json').read_text())
    del content['annotations'][0]['category_id']
    shutil.copytree(shapes / 'images' / 'train', tmp_path / 'images')
    (tmp_path / 'all.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match='annotations whose category_id is not in categories') as error:
        finetune(data=tmp_path, dry_run=True)
    assert '\n' not in str(error.value)


def test_mixed_layouts_and_half_the_labels(shapes, tmp_path, capsys):
    yolo = as_yolo(shapes, tmp_path / 'yolo')
    folder = yolo.parent if yolo.is_file() else yolo
    labels = sorted((folder / 'labels').rglob('*.txt'))
    for path in labels[::2]:
        path.unlink()
    finetune(data=yolo, arch='nano', dry_run=True)
    assert re.search(r'note: train: \d+ of \d+ images of \S+ have no label file', capsys.readouterr().out)
    shutil.copytree(shapes / 'annotations', folder / 'annotations')
    with pytest.raises(
        UserError, match=r'holds COCO jsons and YOLO \(data.yaml\), which may differ: name one'
    ):
        finetune(data=folder, arch='nano', dry_run=True)
    finetune(data=folder / 'data.yaml', arch='nano', dry_run=True)
    capsys.readouterr()

    half = tmp_path / 'half'
    shutil.copytree(shapes, half)
    shutil.rmtree(half / 'labels', ignore_errors=True)
    path = half / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    kept = {image['id'] for image in content['images'][::2]}
    content['images'] = [image for image in content['images'] if image['id'] in kept]
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    path.write_text(json.dumps(content))
    finetune(data=half, arch='nano', dry_run=True)
    assert re.search(r'note: \d+ of \d+ images in \S+train are in no json: not used', capsys.readouterr().out)


def test_a_class_with_one_image(tmp_path):
    """It stays in training, and is a class of validation without an image."""
    for name, count in (('cat', 6), ('owl', 1)):
        for i in range(count):
            (tmp_path / 'data' / name).mkdir(parents=True, exist_ok=True)
            pixels = np.full((40, 40, 3), 40 * i + len(name), np.uint8)
            pixels[: i + 1, : ord(name[0]) % 7] = 200
            Image.fromarray(pixels).save(tmp_path / 'data' / name / f'{i}.png')
    own = read_place(tmp_path / 'data', tmp_path / 'out')
    assert own.classes == ['cat', 'owl'] and own.num_images == 6
    assert [len(list((own.train / name).iterdir())) for name in own.classes] == [5, 1]
    assert [len(list((own.val / name).iterdir())) for name in own.classes] == [1, 0]
    _, errors = check_data(dict(train=str(own.train), val=str(own.val)), [])
    assert errors == 0


def test_some_objects_without_masks(shapes, tmp_path, capsys):
    """What is learned is said first; where only some objects have masks, it is asked."""
    finetune(data=shapes, arch='nano', dry_run=True)
    assert re.search(r'\nlearns +boxes and masks\n', capsys.readouterr().out)
    data = tmp_path / 'data'
    shutil.copytree(shapes, data)
    path = data / 'annotations' / 'instances_train.json'
    changed = json.loads(path.read_text())
    del changed['annotations'][0]['segmentation']
    path.write_text(json.dumps(changed))
    with pytest.raises(
        UserError, match=r'1 of \d+ objects have no mask, the first is annotation 1: complete'
    ):
        finetune(data=data, arch='nano', dry_run=True)
    finetune(data=data, arch='nano', dry_run=True, masks=False)
    assert re.search(r'\nlearns +boxes\n', capsys.readouterr().out)


@pytest.mark.parametrize('bits', [8, 12])
def test_the_bits_of_the_images_are_in_the_config(bits, shapes, tmp_path):
    """Values of 8 or 12 bits in 16: training and prediction read what the 8-bit twins hold."""
    import cv2

    data = tmp_path / 'data'
    shutil.copytree(shapes, data)
    shutil.rmtree(data / 'labels')
    for path in sorted((data / 'images').rglob('*.png')):
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) << (bits - 8))
    made = finetune(data=data, arch='nano', work_dir=tmp_path / 'run', config_only=True)
    config = load_config(made.config)
    for loader in (config.train_dataloader, config.val_dataloader):
        assert loader.dataset.pipeline[0] == dict(type='LoadImageFromFile', bits=bits)
    name = sorted(p.name for p in (data / 'images' / 'val').iterdir())[0]
    use_one_decoder('mmdet')
    init_default_scope('mmdet')
    found = TRANSFORMS.build(config.val_dataloader.dataset.pipeline[0])(
        dict(img_path=str(data / 'images' / 'val' / name))
    )['img']
    assert (found == cv2.imread(str(shapes / 'images' / 'val' / name))).all()
    assert pixels_of_config(config) == PixelFormat(bits)
