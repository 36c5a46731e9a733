"""YOLO and VOC annotations as COCO: numbers by hand, and everything that can be wrong with a file."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.datasets.validation.coco import check_coco_split, read_split
from fastervit_backbone.datasets.voc import read_voc
from fastervit_backbone.datasets.yolo import read_yolo
from fastervit_backbone.utils.errors import UserError
from tests.helpers import assert_one_line_error
from tests.processes import verb


def save_image(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)).save(path)


@pytest.fixture
def yolo(tmp_path):
    """As Ultralytics lays it out: a box, a polygon, an image without a label file, one with an empty one."""
    root = tmp_path / 'set'
    for split, names in (('train', ('a', 'b', 'c')), ('val', ('d',))):
        for name in names:
            save_image(root / 'images' / split / f'{name}.jpg', 200, 100)
        (root / 'labels' / split).mkdir(parents=True)
    (root / 'labels' / 'train' / 'a.txt').write_text('1 0.5 0.5 0.2 0.4\n\n0 0.9 0.1 0.4 0.4\n')
    (root / 'labels' / 'train' / 'b.txt').write_text('0 0.1 0.1 0.5 0.1 0.5 0.9\n')
    (root / 'labels' / 'train' / 'c.txt').write_text('')
    (root / 'labels' / 'val' / 'd.txt').write_text('')
    (root / 'data.yaml').write_text('path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n')
    return root


def test_yolo_by_hand(yolo):
    converted = read_yolo(yolo / 'data.yaml')
    assert set(converted) == {'train', 'val'}
    content = converted['train'].content
    assert content['categories'] == [dict(id=0, name='cat'), dict(id=1, name='dog')]
    assert [(i['file_name'], i['width'], i['height']) for i in content['images']] == [
        (f'{n}.jpg', 200, 100) for n in 'abc'
    ]
    box, cut, polygon = content['annotations']
    assert box['bbox'] == [80, 30, 40, 40] and box['category_id'] == 1 and box['area'] == 1600
    assert cut['bbox'] == [140, 0, 60, 30]  # 140..220 by -10..30, cut to the image
    assert polygon['segmentation'] == [[20, 10, 100, 10, 100, 90]] and polygon['bbox'] == [20, 10, 80, 80]
    assert polygon['area'] == pytest.approx(80 * 80 / 2)
    assert (
        converted['val'].content['annotations'] == []
        and converted['train'].images == yolo / 'images' / 'train'
    )


@pytest.mark.parametrize(
    ('label', 'told'),
    [
        ('2 0.5 0.5 0.1 0.1', r'a\.txt, line 1: class 2 is not one of the 2 names'),
        ('0 50 50 10 10', r'50 is not in 0 to 1, relative to the image: are these pixels'),
        ('0 0.5 0.5 0.1', r'3 numbers after the class'),
        ('cat 0.5 0.5 0.1 0.1', r"'cat 0.5 0.5 0.1 0.1' is not a class number"),
        ('0 0.5 0.5 nan 0.1', r'nan is not in 0 to 1'),
    ],
)
def test_yolo_labels_that_cannot_be(label, told, yolo):
    (yolo / 'labels' / 'train' / 'a.txt').write_text(label)
    with pytest.raises(UserError, match=told):
        read_yolo(yolo / 'data.yaml')


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('names: [a', 'broken YAML'),
        ('train: images/train', 'has no names'),
        ('names: {x: a}\ntrain: images/train', 'has no names'),
        ('names: [a]', 'names no train, val or test with labels'),
        ('names: [a]\ntrain: images/absent', r'no folder or list of images at .*absent'),
        ('- 1', 'has no names'),
        ('names: [a]\ntrain: imgs', r'imgs has a label file: neither .*imgs.a\.txt nor any other'),
    ],
)
def test_yamls_that_cannot_be(text, told, yolo):
    (yolo / 'data.yaml').write_text(text)
    (yolo / 'imgs').mkdir()
    shutil.copy(yolo / 'images' / 'train' / 'a.jpg', yolo / 'imgs')
    with pytest.raises(UserError, match=told):
        read_yolo(yolo / 'data.yaml')


def test_yolo_lists_and_unreadable_images(yolo):
    (yolo / 'images' / 'train' / 'c.jpg').write_text('none')
    (yolo / 'list.txt').write_text('images/train/a.jpg\nimages/train/c.jpg\nimages/val/d.jpg\n')
    (yolo / 'data.yaml').write_text('train: list.txt\nnames: {0: cat, 1: dog}\n')
    split = read_yolo(yolo / 'data.yaml')['train']
    assert [i['file_name'] for i in split.content['images']] == [
        'train/a.jpg',
        'val/d.jpg',
    ] and split.images == yolo / 'images'
    assert [v.rule.id for v in split.violations] == ['image-unreadable', 'box-reaches-out']
    assert split.violations[0].example == 'train/c.jpg'


def voc_xml(*objects):
    def one(name, box, difficult=0):
        sides = ''.join(f'<{s}>{v}</{s}>' for s, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True))
        return (
            f'<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>'
        )

    return f'<annotation>{"".join(one(*o) for o in objects)}</annotation>'


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / 'voc'
    for name in 'abc':
        save_image(root / 'JPEGImages' / f'{name}.jpg', 60, 40)
    (root / 'Annotations').mkdir()
    (root / 'ImageSets' / 'Main').mkdir(parents=True)
    (root / 'Annotations' / 'a.xml').write_text(voc_xml(('dog', (1, 1, 21, 31)), ('cat', (11, 6, 60, 40), 1)))
    (root / 'Annotations' / 'b.xml').write_text(voc_xml(('dog', (5, 5, 5, 20))))
    (root / 'Annotations' / 'c.xml').write_text(voc_xml())
    (root / 'ImageSets' / 'Main' / 'train.txt').write_text('a\nb 1\n')
    (root / 'ImageSets' / 'Main' / 'val.txt').write_text('c\n')
    return root


def test_voc_by_hand(voc):
    converted = read_voc(voc)
    content = converted['train'].content
    assert content['categories'] == [dict(id=1, name='cat'), dict(id=2, name='dog')]
    assert [(a['bbox'], a['category_id'], a['iscrowd']) for a in content['annotations']] == [
        ([0, 0, 20, 30], 2, 0),
        ([10, 5, 49, 34], 1, 1),
    ]
    assert [(v.rule.id, v.example) for v in converted['train'].violations] == [
        ('box-flat', 'b.xml: dog [5.0, 5.0, 5.0, 20.0]')
    ]
    assert [i['file_name'] for i in converted['val'].content['images']] == ['c.jpg'] and converted[
        'val'
    ].content['annotations'] == []
    ordered = read_voc(voc, ['dog'])['train']
    assert ordered.content['categories'] == [dict(id=1, name='dog')] and ordered.notes == [
        "1 objects of 'cat', which is not one of the classes"
    ]
    for name in ('train', 'val'):
        (voc / 'ImageSets' / 'Main' / f'{name}.txt').unlink()
    assert [len(s.content['images']) for s in read_voc(voc).values()] == [3]


@pytest.mark.parametrize(
    ('text', 'rule'),
    [
        ('<annotation>', 'xml-unreadable'),
        ('<annotation><object><name>x</name></object></annotation>', 'object-incomplete'),
        (voc_xml(('', (1, 1, 2, 2))), 'object-incomplete'),
        (voc_xml(('x', (1, 'left', 2, 2))), 'number-bad'),
        (voc_xml(('x', (1, 1, 2, 2), 'no')), 'number-bad'),
        (voc_xml(('x', (1, 1, 2, 2), '')), None),  # an empty <difficult/> is none
    ],
)
def test_voc_files_that_cannot_be(text, rule, voc, tmp_path):
    (voc / 'Annotations' / 'a.xml').write_text(text)
    split = read_voc(voc)['train']
    assert [v.rule.id for v in split.violations] == [rule, 'box-flat'][rule is None :]
    assert all('a.xml' in v.example for v in split.violations[:-1])
    done = verb('convert-data', 'voc', voc, '--out', 'o', cwd=tmp_path) if rule == 'number-bad' else None
    if done is not None:
        assert_one_line_error(done, r'values that must be numbers of pixels and are not \(a\.xml: ')


def test_the_tool_and_what_it_writes(yolo, voc, tmp_path):
    done = verb('convert-data', 'yolo', yolo / 'data.yaml', '--out', 'jsons', cwd=tmp_path)
    assert done.returncode == 0 and 'train.json: 3 images, 3 objects, 2 classes' in done.stdout, done.stderr
    (following,) = re.findall(r'^next: fastervit (.*)$', done.stdout, re.MULTILINE)
    checked = verb(*shlex.split(following), cwd=tmp_path)  # an image is in both splits
    assert checked.returncode == 1 and 'meaningless' in checked.stdout
    split = read_split('train', tmp_path / 'jsons' / 'train.json', yolo / 'images' / 'train')
    assert not [f for f in check_coco_split(split) if f.level == 'error']
    assert_one_line_error(
        verb('convert-data', 'yolo', 'absent.yaml', '--out', 'x', cwd=tmp_path), r'no file at absent\.yaml'
    )
    assert_one_line_error(
        verb('convert-data', 'voc', tmp_path, '--out', 'x', cwd=tmp_path), 'has no Annotations and JPEGImages'
    )
    assert_one_line_error(
        verb('convert-data', 'voc', voc, '--oup', 'x', cwd=tmp_path),
        'unknown option --oup .*did you mean .--out',
    )
    assert not (tmp_path / 'x').exists()
    done = verb('convert-data', 'voc', voc, '--out', 'voc_jsons', cwd=tmp_path)
    assert (
        done.returncode == 0
        and len(json.loads((tmp_path / 'voc_jsons' / 'val.json').read_text())['images']) == 1
    )


def test_yolo_pose_has_boxes(yolo):
    """Key points after a box are no polygon."""
    text = (yolo / 'data.yaml').read_text()
    (yolo / 'data.yaml').write_text(f'{text}kpt_shape: [2, 3]\n')
    label = '1 0.5 0.5 0.2 0.4 0.45 0.4 2 0.55 0.6 1\n'
    for name in 'ab':
        (yolo / 'labels' / 'train' / f'{name}.txt').write_text(label)
    split = read_yolo(yolo / 'data.yaml')['train']
    assert [a['bbox'] for a in split.content['annotations']] == [[80, 30, 40, 40]] * 2
    assert not any(a.get('segmentation') for a in split.content['annotations'])
    assert 'key points (kpt_shape) are left out: boxes only' in split.notes


def test_a_yolo_list_of_images(yolo):
    text = (yolo / 'data.yaml').read_text()
    (yolo / 'data.yaml').write_text(
        text.replace('train: images/train', 'train: [images/train/a.jpg, images/train/c.jpg]')
    )
    images = read_yolo(yolo / 'data.yaml')['train'].content['images']
    assert [image['file_name'] for image in images] == ['a.jpg', 'c.jpg']
