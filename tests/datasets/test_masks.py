"""Masks in every form become the label map that they show; COCO and label maps convert exactly."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from fastervit_backbone.datasets.masks import (
    coco_to_label_maps,
    convert_masks,
    label_maps_to_coco,
    read_colors,
)
from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.utils.errors import UserError
from tests.helpers import assert_one_line_error
from tests.processes import verb

COLORS = {0: (0, 0, 0), 1: (128, 0, 64), 2: (10, 200, 30), 255: (255, 255, 255)}
FILE = '0 0 0 ground\n# a remark\nroad, big: 128, 0, 64\n#0ac81e\tsky\n255 255 255 void\n'


@pytest.fixture
def values():
    return np.random.default_rng(0).choice([0, 1, 2, 255], (37, 23)).astype(np.uint8)


def rgb(values):
    table = np.zeros((256, 3), np.uint8)
    for value, color in COLORS.items():
        table[value] = color
    return Image.fromarray(table[values])


def palette(values):
    image = Image.fromarray(values).convert('P')
    image.putdata(values.ravel().tolist())
    image.putpalette([part for v in range(256) for part in COLORS.get(v, (1, 1, v))])
    return image


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.bmp'])
@pytest.mark.parametrize('form', [rgb, palette])
def test_colors_and_palettes(form, suffix, values, tmp_path):
    (tmp_path / 'colors.txt').write_text(FILE)
    (tmp_path / 'in' / 'sub').mkdir(parents=True)
    form(values).save(tmp_path / 'in' / 'sub' / f'a{suffix}')
    counts = convert_masks(tmp_path / 'in', tmp_path / 'out', colors=read_colors(tmp_path / 'colors.txt'))
    with Image.open(tmp_path / 'out' / 'sub' / 'a.png') as written:
        assert written.mode == 'L' and np.array_equal(np.asarray(written), values)
    assert counts == {int(v): int((values == v).sum()) for v in np.unique(values)}
    assert (tmp_path / 'out' / 'classes.txt').read_text() == 'ground\nroad big\nsky\n'
    if form is palette:  # without colors its indices count
        convert_masks(tmp_path / 'in', tmp_path / 'indices')
        assert np.array_equal(np.asarray(Image.open(tmp_path / 'indices' / 'sub' / 'a.png')), values)


@pytest.mark.parametrize(
    'form',
    [
        lambda v: Image.fromarray(v * 255),
        lambda v: Image.fromarray(np.repeat(v[..., None] * 255, 3, 2)),
        lambda v: Image.fromarray(np.dstack([v * 255] * 3 + [np.full_like(v, 7)])),
        lambda v: Image.fromarray(v.astype(np.int32) * 255),
    ],
)
def test_black_and_white(form, tmp_path):
    values = np.random.default_rng(1).integers(0, 2, (9, 14)).astype(np.uint8)
    (tmp_path / 'in').mkdir()
    form(values).save(tmp_path / 'in' / 'a.tif')
    convert_masks(tmp_path / 'in', tmp_path / 'out', {255: 1})
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'out' / 'a.png')), values)


def test_one_bit(tmp_path):
    values = np.random.default_rng(1).integers(0, 2, (9, 14)).astype(bool)
    (tmp_path / 'in').mkdir()
    Image.fromarray(values).save(tmp_path / 'in' / 'a.png')
    convert_masks(tmp_path / 'in', tmp_path / 'out')
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'out' / 'a.png')), values)


def test_label_maps_to_coco_and_back(tmp_path):
    """Regions with holes, single pixels and parts that touch by a corner."""
    generator = np.random.default_rng(3)
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    maps = {}
    for name in ('a', 'b'):
        maps[name] = generator.choice([0, 1, 2], (31, 40), p=[0.5, 0.3, 0.2]).astype(np.uint8)
        Image.fromarray(maps[name]).save(tmp_path / 'labels' / f'{name}.png')
        Image.fromarray(np.zeros((31, 40, 3), np.uint8)).save(tmp_path / 'images' / f'{name}.jpg')
    classes = ['background', 'one', 'two']
    content = label_maps_to_coco(tmp_path / 'images', tmp_path / 'labels', classes)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    coco = COCO(str(tmp_path / 'a.json'))
    for a in content['annotations']:
        mask = coco.annToMask(a)
        x, y, w, h = a['bbox']
        assert mask.sum() == a['area'] == mask[y : y + h, x : x + w].sum()
    coco_to_label_maps(tmp_path / 'a.json', tmp_path / 'out')
    for name, expected in maps.items():
        assert np.array_equal(np.asarray(Image.open(tmp_path / 'out' / f'{name}.png')), expected)
    assert (tmp_path / 'out' / 'classes.txt').read_text().split() == classes


def test_coco_to_label_maps_draws_small_objects_last(tmp_path):
    def square(number, category, x1, y1, x2, y2, **more):
        polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
        box = dict(bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1), segmentation=[polygon])
        return dict(dict(id=number, image_id=5, category_id=category, iscrowd=0) | box, **more)

    crowd = np.zeros((8, 10), np.uint8)
    crowd[:, 6:] = 1
    flat = crowd.T.ravel()
    counts = np.diff(np.flatnonzero(np.concatenate([[1], np.diff(flat), [1]]) != 0)).tolist()
    rle = dict(counts=counts, size=[8, 10])
    content = dict(
        images=[dict(id=5, file_name='x/a.jpg', height=8, width=10)],
        annotations=[
            square(1, 9, 3, 3, 5, 5),
            square(2, 4, 2, 2, 8, 6),
            square(3, 9, 0, 0, 1, 1, iscrowd=1) | dict(segmentation=rle),
        ],
        categories=[dict(id=4, name='large'), dict(id=9, name='small')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    coco_to_label_maps(tmp_path / 'a.json', tmp_path / 'out')
    expected = np.zeros((8, 10), np.uint8)
    expected[:, 6:] = 255
    expected[2:6, 2:8] = 1
    expected[3:5, 3:5] = 2
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'out' / 'x' / 'a.png')), expected)


def test_a_json_cannot_write_elsewhere(tmp_path):
    def refused(message, **changes):
        content = dict(
            images=[dict(id=1, file_name='a.jpg', height=4, width=4)],
            annotations=[dict(id=3, image_id=1, category_id=1, segmentation=[[0, 0, 2, 0, 2, 2, 0, 2]])],
            categories=[dict(id=1, name='a')],
        )
        (tmp_path / 'a.json').write_text(json.dumps(content | changes))
        with pytest.raises(UserError, match=message):
            coco_to_label_maps(tmp_path / 'a.json', tmp_path / 'out')
        assert not (tmp_path / 'out').exists()

    size = dict(height=4, width=4)
    refused('leaves the folder', images=[dict(id=1, file_name=str(tmp_path / 'a.png'), **size)])
    refused('leaves the folder', images=[dict(id=1, file_name='../a.png', **size)])
    twice = [dict(id=1, file_name='a.png', **size), dict(id=2, file_name='a.jpg', **size)]
    refused('two images would have the label map a.png', images=twice)
    refused('annotation 3 has the unknown category 1', categories=[dict(id=2, name='a')])
    refused('no height and width', images=[dict(id=1, file_name='a.png')])


def test_errors_write_nothing(values, tmp_path):
    (tmp_path / 'in').mkdir()
    rgb(values).save(tmp_path / 'in' / 'a.png')
    Image.fromarray(values.astype(np.int32) + 300).save(tmp_path / 'b.tif')
    for text, message in (
        ('0 0 0 ground\n', r'a\.png: the color \d+ \d+ \d+ at x \d+, y \d+ is not in the --colors file'),
        ('0 0 0 ground\n0 0 0 road\n', 'line 2: 0 0 0 is the color of two lines'),
        ('0 0 400 ground\n', 'line 1: 0 0 400 has a number above 255'),
        ('ground\n', "line 1: 'ground' is not a color"),
        ('1 128 64 128 road\n', 'is not a color'),
        (
            ''.join(f'0 {i // 9} {i % 9} name{chr(97 + i // 9)}{chr(97 + i % 9)}x\n' for i in range(260)),
            '255 classes',
        ),
        ('\n', 'no colors in it'),
    ):
        (tmp_path / 'colors.txt').write_text(text)
        with pytest.raises(UserError, match=message):
            convert_masks(tmp_path / 'in', tmp_path / 'out', colors=read_colors(tmp_path / 'colors.txt'))
    with pytest.raises(UserError, match=r'a\.png has colors: name them with --colors FILE'):
        convert_masks(tmp_path / 'in', tmp_path / 'out')
    (tmp_path / 'in' / 'a.png').unlink()
    with pytest.raises(UserError, match='no masks'):
        convert_masks(tmp_path / 'in', tmp_path / 'out')
    (tmp_path / 'b.tif').rename(tmp_path / 'in' / 'b.tif')
    with pytest.raises(UserError, match=r'has the value \d+: map it to 0 to 255, as in --map'):
        convert_masks(tmp_path / 'in', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_command(tmp_path):
    shapes = make_shapes(tmp_path / 'shapes', train=2, val=2, size=(64, 96))
    json_path, labels = shapes / 'annotations' / 'instances_train.json', tmp_path / 'labels'
    done = verb('convert-data', 'coco', json_path, '--out', labels, cwd=tmp_path)
    assert done.returncode == 0 and 'label maps; pixels of each value: 0: ' in done.stdout, done.stderr
    classes = (labels / 'classes.txt').read_text().split()
    options = ['--images', shapes / 'images' / 'train', '--classes', *classes, '--out', tmp_path / 'jsons']
    done = verb('convert-data', 'labels', labels, *options, cwd=tmp_path)
    assert done.returncode == 0 and '2 images' in done.stdout, done.stderr
    assert len(json.loads((tmp_path / 'jsons' / 'labels.json').read_text())['annotations']) > 2
    for arguments, message in (
        (['voc', labels, '--map', '255:1'], '--map is only for masks'),
        (['labels', labels], 'labels needs --images and --classes'),
    ):
        assert_one_line_error(verb('convert-data', *arguments, '--out', 'x', cwd=tmp_path), message)


def transparent(mask):
    return Image.merge('LA', [Image.new('L', mask.shape[::-1]), Image.fromarray(mask * 255)])


BALL = np.zeros((30, 40), np.uint8)
BALL[8:20, 10:30] = 1


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (
            lambda p: Image.fromarray(BALL * 255).save(p.with_suffix('.jpg'), quality=60),
            'a JPEG, whose compression',
        ),
        (lambda p: transparent(BALL).save(p), 'alpha channel'),
        (lambda p: Image.fromarray(BALL * 0.4).save(p.with_suffix('.tif')), r'fractions such as 0\.4'),
    ],
)
def test_masks_whose_values_nobody_named(make, message, tmp_path):
    (tmp_path / 'masks').mkdir()
    make(tmp_path / 'masks' / 'a.png')
    with pytest.raises(UserError, match=message):
        convert_masks(tmp_path / 'masks', tmp_path / 'out', values={255: 1})
    assert not list((tmp_path / 'out').glob('*.png'))


def test_label_maps_of_another_frame_than_their_images(tmp_path):
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'labels' / '._a.png').write_bytes(b'macOS')
    Image.fromarray(BALL).save(tmp_path / 'labels' / 'a.png')
    for size, exif, message in (
        ((20, 15), 1, 'its image 20x15'),
        ((40, 30), 3, r'EXIF turns \(orientation 3\)'),
    ):
        turned = Image.Exif()
        turned[0x0112] = exif
        Image.new('RGB', size).save(tmp_path / 'images' / 'a.jpg', exif=turned)
        with pytest.raises(UserError, match=message):
            label_maps_to_coco(tmp_path / 'images', tmp_path / 'labels', ['background', 'ball'])
