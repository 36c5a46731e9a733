"""Every layout is one door: open_dataset gives the same objects, and says what a folder lacks."""

import base64
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from fastervit_backbone.check_data import check_data
from fastervit_backbone.datasets.dataset import open_dataset
from fastervit_backbone.finetune.read_data import read_training_data
from fastervit_backbone.finetune.training_data import USED
from fastervit_backbone.utils.errors import UserError


def save_image(path, seed=0, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def objects(split):
    names = {c['id']: c['name'] for c in split.content['categories']}
    files = {i['id']: i['file_name'] for i in split.content['images']}
    return sorted(
        (files[a['image_id']], names[a['category_id']], *a['bbox']) for a in split.content['annotations']
    )


def xml(name, difficult='', size=''):
    box = '<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>31</xmax><ymax>26</ymax></bndbox>'
    one = f'<object><name>cat</name>{difficult}{box}</object>'
    return f'<annotation><filename>{name}</filename>{size}{one}</annotation>'


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


BOX = ('cat', 10, 5, 20, 20)


@pytest.mark.parametrize(
    ('images', 'xmls', 'found'),
    [
        ('images', 'annotations', {'data': 4}),
        ('', '', {'data': 4}),
        ('photos', 'xml', {'data': 4}),
        ('{split}', '{split}', {'train': 2, 'val': 2}),
        ('images/{split}', 'labels/{split}', {'train': 2, 'val': 2}),
    ],
)
def test_xml_files_beside_images(images, xmls, found, tmp_path):
    """LabelImg's folders, Roboflow's, and images and XML files in one."""
    for i in range(4):
        split = 'train' if i % 2 else 'valid'
        save_image(tmp_path / images.format(split=split) / f'{i}.jpg', i)
        write(tmp_path / xmls.format(split=split) / f'{i}.xml', xml(f'{i}.jpg'))
    dataset = open_dataset(tmp_path)
    assert {name: len(split.content['annotations']) for name, split in dataset.splits.items()} == found
    assert all(o[1:] == BOX for split in dataset.splits.values() for o in objects(split))
    lines, errors = check_data({}, [], data=str(tmp_path))
    assert errors == 0 and lines[0].startswith('VOC without its folders, as LabelImg writes it')


def test_voc_as_tools_write_it(tmp_path):
    """Spaces in names, subfolders, PNG images, an empty <difficult/>, another list, two suffixes."""
    for name in ('site 1/my photo 1', 'site 2/b', 'c'):
        save_image(tmp_path / 'JPEGImages' / f'{name}.png', len(name))
        write(tmp_path / 'Annotations' / f'{name}.xml', xml(f'{name}.png', '<difficult/>'))
    save_image(tmp_path / 'JPEGImages' / 'c.jpg', 9)
    write(tmp_path / 'ImageSets/Main/default.txt', 'site 1/my photo 1\nsite 2/b  1\nc -1\n')
    split = open_dataset(tmp_path, (), USED).splits['data']
    assert [o[0] for o in objects(split)] == ['c.png', 'site 1/my photo 1.png', 'site 2/b.png']
    assert not split.violations and check_data({}, [], data=str(tmp_path))[1] == 0
    write(tmp_path / 'ImageSets/Main/default.txt', 'c\nabsent\n')
    split = open_dataset(tmp_path).splits['data']
    assert [(v.rule.id, v.example) for v in split.violations] == [
        ('image-missing', 'absent'),
        ('xml-missing', 'absent.xml'),
    ]


def test_voc_whose_size_is_another(tmp_path):
    """The boxes are in the frame that the XML file states."""
    save_image(tmp_path / 'JPEGImages' / 'a.jpg')
    size = '<size><width>120</width><height>80</height><depth>3</depth></size>'
    write(tmp_path / 'Annotations' / 'a.xml', xml('a.jpg', size=size))
    with pytest.raises(UserError, match=r'images of another size than .*60x40, json 120x80'):
        read_training_data(open_dataset(tmp_path), tmp_path / 'out', write=False)
    _, errors = check_data({}, [], data=str(tmp_path), fix=str(tmp_path / 'fixed'))
    assert errors == 1
    fixed = json.loads((tmp_path / 'fixed' / 'data.json').read_text())
    assert fixed['annotations'][0]['bbox'] == [5, 2.5, 10, 10]


def labelme(name, *shapes, size=(60, 40)):
    return dict(
        version='5.5.0',
        imagePath=name,
        imageData=None,
        imageWidth=size[0],
        imageHeight=size[1],
        shapes=shapes,
    )


def shape(kind, points, label='cat', **more):
    return dict(label=label, points=points, shape_type=kind, group_id=None, flags={}, **more)


def put(folder, name, *shapes, seed=0, stated=None):
    save_image(folder / name, seed)
    write(folder / f'{os.path.splitext(name)[0]}.json', json.dumps(labelme(stated or name, *shapes)))


def test_labelme(tmp_path):
    """Reversed corners, polygons, circles, masks, groups; Windows paths; points and lines are left out."""
    part = np.zeros((6, 8), bool)
    part[1:5, 2:8] = True
    buffer = io.BytesIO()
    Image.fromarray(part).save(buffer, format='PNG')
    png = base64.b64encode(buffer.getvalue()).decode()
    put(tmp_path, 'a.jpg', shape('rectangle', [[30, 25], [10, 5]]), shape('point', [[1, 1]]), seed=1)
    put(
        tmp_path,
        'b.jpg',
        shape('polygon', [[10, 5], [30, 5], [30, 25]], 'dog'),
        seed=2,
        stated='..\\x\\b.jpg',
    )
    put(tmp_path, 'c.jpg', shape('circle', [[30, 20], [30, 10]]), seed=3)
    put(tmp_path, 'd.jpg', shape('mask', [[20, 10], [28, 16]], mask=png), seed=4)
    two = [shape('polygon', [[x, 5], [x + 4, 5], [x + 4, 9], [x, 9]]) | dict(group_id=1) for x in (2, 20)]
    put(tmp_path, 'e.jpg', *two, seed=5)
    save_image(tmp_path / 'unannotated.jpg', 6)
    split = open_dataset(tmp_path).splits['data']
    found = {o[0]: o[1:] for o in objects(split)}
    assert found['a.jpg'] == BOX and found['b.jpg'] == ('dog', 10, 5, 20, 20)
    assert found['c.jpg'] == pytest.approx(('cat', 20, 10, 20, 20))
    assert found['d.jpg'] == ('cat', 22, 11, 6, 4) and found['e.jpg'] == ('cat', 2, 5, 22, 4)
    by_image = {a['image_id']: a for a in split.content['annotations']}
    assert 'segmentation' not in by_image[1] and by_image[2]['area'] == 200
    assert by_image[3]['area'] == pytest.approx(np.pi * 100, rel=0.01)
    mask = coco_mask.decode(by_image[4]['segmentation'])
    assert mask.sum() == 24 and mask[11:15, 22:28].all() and by_image[4]['area'] == 24
    assert len(by_image[5]['segmentation']) == 2
    assert split.notes == [
        '1 shapes are point: left out',
        '1 images have no json, such as unannotated.jpg: not used',
    ]
    with pytest.raises(UserError, match=r'1 of 5 objects have no mask: complete them, or use --no-masks'):
        read_training_data(open_dataset(tmp_path), tmp_path / 'out', write=False)
    assert not read_training_data(
        open_dataset(tmp_path), tmp_path / 'out', masks=False, write=False
    ).has_masks
    write(tmp_path / 'settings.json', '{}')
    lines, errors = check_data({}, [], data=str(tmp_path))
    assert errors == 0 and any('settings.json is not labelme' in line for line in lines)


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        ('{"shapes": [', 'broken JSON'),
        (
            labelme('b.jpg', shape('polygon', [[1, 1], [2, 2]])),
            r'shape 0 \(cat\) is a polygon without 3 points',
        ),
        (labelme('b.jpg', shape('polygon', [[1, 1], [2, 2], [3, 'x']])), 'points of two numbers'),
        (labelme('b.jpg', shape('mask', [[1, 1], [2, 2]], mask='?')), 'no PNG in base64'),
        (labelme('b.jpg', dict(points=[])), 'a shape without a label'),
    ],
)
def test_labelme_files_that_cannot_be(content, told, tmp_path):
    put(tmp_path, 'a.jpg', shape('rectangle', [[30, 25], [10, 5]]))
    save_image(tmp_path / 'b.jpg', 2)
    write(tmp_path / 'b.json', content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=told) as error:
        open_dataset(tmp_path)
    assert '\n' not in str(error.value)


def test_one_labelme_json(tmp_path):
    put(tmp_path, 'a.jpg', shape('rectangle', [[30, 25], [10, 5]]))
    with pytest.raises(UserError, match="labelme's json of one image: name its folder"):
        open_dataset(tmp_path / 'a.json')


def yolo(root, **yaml):
    for i in range(3):
        save_image(root / 'images' / 'train' / f'{i}.jpg', i)
        write(root / 'labels' / 'train' / f'{i}.txt', f'{i % 2} 0.5 0.5 0.2 0.4\n')
    keys = dict(train='images/train', names='[a, b]') | yaml
    write(root / 'data.yaml', ''.join(f'{key}: {value}\n' for key, value in keys.items()))
    return root


def test_yaml_makes_no_values_of_names(tmp_path):
    """Plain YAML reads no as False, 1e3 as a number and 2024-01-01 as a date."""
    split = open_dataset(yolo(tmp_path, names='{0: no, 1: 1e3}', val='null')).splits['train']
    assert [c['name'] for c in split.content['categories']] == ['no', '1e3']
    assert check_data({}, [], data=str(tmp_path))[1] == 0


def test_yolo_of_other_names_and_without_test_labels(tmp_path):
    yolo(tmp_path, test='images/test')
    save_image(tmp_path / 'images' / 'test' / 'x.jpg', 7)
    (tmp_path / 'data.yaml').rename(tmp_path / 'set.yml')
    assert list(open_dataset(tmp_path).splits) == ['train']


@pytest.mark.parametrize(
    'line', ['data/images/train/{}.jpg', './images/train/{}.jpg', 'data\\images\\train\\{}.jpg']
)
def test_yolo_lists_from_elsewhere(line, tmp_path):
    yolo(tmp_path, train='train.txt')
    write(tmp_path / 'train.txt', '\n'.join(line.format(i) for i in range(3)))
    assert len(open_dataset(tmp_path).splits['train'].content['annotations']) == 3
    write(tmp_path / 'train.txt', 'images/train/0.jpg\nimages/train/9.jpg\n')
    with pytest.raises(
        UserError, match=r'lists images that do not exist \(1 of 2, the first is images/train/9'
    ):
        open_dataset(tmp_path)


def test_numbers_of_coco_jsons(tmp_path):
    """Floats that are whole numbers are those numbers, in checks and in training."""
    save_image(tmp_path / 'a.jpg')
    image = dict(id=1.0, file_name='a.jpg', width=60.0, height=40.0)
    box = dict(id=3.0, image_id=1.0, category_id=2.0, bbox=[10, 5, 20, 20], area=400, iscrowd=0)
    content = dict(images=[image], annotations=[box], categories=[dict(id=2.0, name='cat')])
    write(tmp_path / 'a.json', '\ufeff' + json.dumps(content))
    split = open_dataset(tmp_path / 'a.json').splits['data']
    assert split.content['images'][0]['id'] == 1 and type(split.content['annotations'][0]['image_id']) is int
    assert check_data({}, [], data=str(tmp_path / 'a.json'))[1] == 0


def test_equal_names_in_several_folders(tmp_path):
    """Each XML file is of the image that shares most folders with it; where that is not one, it is asked."""
    for scene, box in (('a', BOX), ('b', ('dog', *BOX[1:]))):
        for i in range(2):
            save_image(tmp_path / scene / 'images' / f'{i}.jpg', i)
            write(tmp_path / scene / 'annotations' / f'{i}.xml', xml(f'{i}.jpg').replace('cat', box[0]))
    found = objects(open_dataset(tmp_path).splits['data'])
    assert [(o[0][0], o[1]) for o in found] == [('a', 'cat'), ('a', 'cat'), ('b', 'dog'), ('b', 'dog')]
    for scene in 'ab':
        (tmp_path / scene / 'annotations' / '0.xml').rename(tmp_path / f'{scene}0.xml')
    (tmp_path / 'a0.xml').rename(tmp_path / '0.xml')
    with pytest.raises(UserError, match=r'0\.xml could be of \S+0\.jpg or of \S+0\.jpg: put it beside'):
        open_dataset(tmp_path)


def test_xml_files_and_images_without_each_other(tmp_path):
    """The split is that of the image's folder; nothing vanishes without a word."""
    for split in ('train', 'val'):
        for i in range(2):
            save_image(tmp_path / 'images' / split / f'{split}{i}.jpg', i)
            write(tmp_path / 'annotations' / f'{split}{i}.xml', xml(f'{split}{i}.jpg'))
    write(tmp_path / 'annotations' / 'gone.xml', xml('gone.heic'))
    save_image(tmp_path / 'images' / 'train' / 'unlabelled.jpg', 5)
    splits = open_dataset(tmp_path).splits
    assert {name: len(s.content['annotations']) for name, s in splits.items()} == dict(train=2, val=2, data=0)
    assert [(v.rule.id, v.example) for v in splits['data'].violations] == [
        ('image-missing', 'annotations/gone')
    ]
    assert splits['train'].notes == ['1 images have no .xml, such as images/train/unlabelled.jpg: not used']


def test_boxes_in_other_pixels_are_told(tmp_path):
    save_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.xml', xml('a.jpg').replace('>31<', '>3000<'))
    put(tmp_path / 'l', 'b.jpg', shape('rectangle', [[30, 25], [900, 700]]), seed=2)
    (finding,) = open_dataset(tmp_path / 'l').splits['data'].check()
    assert finding.kind == 'box-reaches-out' and '870' in finding.examples[0]
    shutil.rmtree(tmp_path / 'l')
    assert [v.rule.id for v in open_dataset(tmp_path).splits['data'].violations] == ['box-reaches-out']


def test_labelme_files_that_were_renamed(tmp_path):
    """The image of the same name is the one, whatever imagePath says; two jsons of one image are refused."""
    for i in range(3):
        kind = shape('rectangle', [[10, 5], [20 + i, 15]])
        put(tmp_path, f'{i}.jpg', kind, seed=i, stated=f'{i - 1}.jpg')
    found = objects(open_dataset(tmp_path).splits['data'])
    assert [(o[0], o[4]) for o in found] == [('0.jpg', 10), ('1.jpg', 11), ('2.jpg', 12)]
    write(tmp_path / 'copy.json', (tmp_path / '1.json').read_text())
    with pytest.raises(UserError, match=r'are both of \S+0\.jpg: move one of them away'):
        open_dataset(tmp_path)


def test_a_rectangle_of_four_points_in_a_group(tmp_path):
    square = shape('rectangle', [[5, 5], [25, 5], [25, 25], [5, 25]]) | dict(group_id=1)
    put(tmp_path, 'a.jpg', square, shape('polygon', [[30, 30], [35, 30], [35, 35]]) | dict(group_id=1))
    (a,) = open_dataset(tmp_path).splits['data'].content['annotations']
    assert a['area'] == 400 + 12.5


@pytest.mark.parametrize(('train', 'val'), [('train', 'valid'), ('Train', 'Validation'), ('training', 'val')])
def test_splits_by_any_of_their_names(train, val, tmp_path):
    for i, name in enumerate((train, train, val)):
        save_image(tmp_path / 'voc/JPEGImages' / f'{i}.jpg', i)
        write(tmp_path / 'voc/Annotations' / f'{i}.xml', xml(f'{i}.jpg'))
        with (tmp_path / f'{name}.txt').open('a') as file:
            file.write(f'{i}\n')
        for kind in ('Images', 'masks'):
            other = {train: 'train', val: 'validation'}[name] if kind == 'masks' else name
            folder = tmp_path / 'maps' / kind / other
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), i % 2, np.uint8)).save(folder / f'{i}.png')
        for label in ('cat', 'dog'):
            save_image(tmp_path / 'classes' / name / label / f'{i}.jpg', i + ord(label[0]))
    (tmp_path / 'voc/ImageSets/Main').mkdir(parents=True)
    for name in (train, val):
        (tmp_path / f'{name}.txt').rename(tmp_path / 'voc/ImageSets/Main' / f'{name}.txt')
    for place in ('voc', 'maps', 'classes'):
        assert list(open_dataset(tmp_path / place).splits) == ['train', 'val'], place


def test_a_validation_split_is_not_dropped(tmp_path):
    for split in ('train', 'val'):
        for label in ('cat', 'dog'):
            save_image(tmp_path / split / label / '0.jpg', len(split) + ord(label[0]))
    os.remove(tmp_path / 'val' / 'dog' / '0.jpg')  # an empty class is one
    assert list(open_dataset(tmp_path).splits) == ['train', 'val']
    save_image(tmp_path / 'val' / 'preview.jpg', 9)
    with pytest.raises(UserError, match=r'preview\.jpg lies beside its folders: its images must be in'):
        open_dataset(tmp_path)


def test_folders_of_splits_are_no_classes(tmp_path):
    for split in ('Train', 'Test'):
        for i in range(2):
            save_image(tmp_path / split / f'{i}.jpg', i)
    with pytest.raises(UserError, match='no two or more folders of images'):
        open_dataset(tmp_path)


def coco_json(path, names, categories=('cat', 'dog')):
    for name in names:
        save_image(path.parent / name, len(name))
    images = [dict(id=i, file_name=n, width=60, height=40) for i, n in enumerate(names, 1)]
    box = dict(bbox=[10, 5, 20, 20], area=400, iscrowd=0)
    content = dict(
        images=images,
        categories=[dict(id=i, name=n) for i, n in enumerate(categories, 1)],
        annotations=[
            box | dict(id=3 * i + c, image_id=i, category_id=c)
            for i in range(1, len(names) + 1)
            for c in (1, 2)
        ],
    )
    write(path, json.dumps(content))


def test_no_json_is_dropped_without_a_word(tmp_path):
    for name in ('cat_train', 'dog_train', 'train', 'instances_val'):
        coco_json(tmp_path / f'{name}.json', [f'{name}{i}.jpg' for i in range(2)])
    shutil.copy(tmp_path / 'instances_val.json', tmp_path / 'person_keypoints_val.json')
    dataset = open_dataset(tmp_path)
    assert len(dataset.splits) == 4 and [p.stem for p in dataset.skipped] == ['person_keypoints_val']
    own = read_training_data(dataset, tmp_path / 'out', write=False)
    (line,) = [line for line in own.lines if 'not used: ' in line]
    assert 'dog_train.json' in line and 'person_keypoints_val.json' in line
    assert not any('are in no json' in line for line in own.lines)


def test_categories_in_another_order_are_written_again(tmp_path):
    coco_json(tmp_path / 'train.json', ['a.jpg', 'b.jpg'])
    coco_json(tmp_path / 'val.json', ['c.jpg'], ('dog', 'cat'))
    own = read_training_data(open_dataset(tmp_path), tmp_path / 'out')
    assert own.train == tmp_path / 'train.json' and own.val == tmp_path / 'out' / 'val.json'
    assert [c['name'] for c in json.loads(own.val.read_text())['categories']] == ['cat', 'dog'] == own.classes


def test_the_command_that_lists_all_has_the_images(tmp_path):
    coco_json(tmp_path / 'json' / 'train.json', ['a.jpg', 'b.jpg'])
    (tmp_path / 'json' / 'a.jpg').unlink()
    shutil.move(tmp_path / 'json' / 'b.jpg', tmp_path / 'b.jpg')
    with pytest.raises(UserError, match=rf'fastervit check-data \S+train\.json --images {tmp_path}'):
        read_training_data(
            open_dataset(tmp_path / 'json' / 'train.json', [tmp_path]), tmp_path / 'out', write=False
        )


def test_boxes_in_the_files_pixels_are_not_scaled_in_any_layout(tmp_path):
    """The size that is stated is wrong, the boxes are not: as in a COCO json."""
    for i in range(2):
        save_image(tmp_path / 'voc/JPEGImages' / f'{i}.jpg', i, (600, 400))
        size = '<size><width>300</width><height>200</height></size>'
        text = xml(f'{i}.jpg', size=size).replace('>31<', '>501<').replace('>26<', '>301<')
        write(tmp_path / 'voc/Annotations' / f'{i}.xml', text)
        rectangle = labelme(f'{i}.jpg', shape('rectangle', [[10, 5], [500, 300]]), size=(300, 200))
        save_image(tmp_path / 'labelme' / f'{i}.jpg', i, (600, 400))
        write(tmp_path / 'labelme' / f'{i}.json', json.dumps(rectangle))
    for name in ('voc', 'labelme'):
        check_data({}, [], data=str(tmp_path / name), fix=str(tmp_path / 'fixed'))
        fixed = json.loads((tmp_path / 'fixed' / 'data.json').read_text())
        assert [a['bbox'] for a in fixed['annotations']] == [[10, 5, 490, 295]] * 2, name
        assert (fixed['images'][0]['width'], fixed['images'][0]['height']) == (600, 400)


def test_what_a_reader_leaves_out_is_in_the_log(tmp_path):
    save_image(tmp_path / 'JPEGImages' / 'a.jpg')
    write(tmp_path / 'Annotations' / 'a.xml', xml('a.jpg').replace('>31<', '>3<'))
    check_data({}, [], data=str(tmp_path), fix=str(tmp_path / 'fixed'))
    log = (tmp_path / 'fixed' / 'changes.log').read_text()
    assert 'data: a.xml: cat [11.0, 6.0, 3.0, 26.0]: box-negative, left out' in log


def test_a_flat_rectangle_is_told(tmp_path):
    put(tmp_path, 'a.jpg', shape('rectangle', [[10, 5], [10, 25]]), shape('rectangle', [[1, 1], [9, 9]]))
    split = open_dataset(tmp_path).splits['data']
    assert [(v.rule.id, v.example) for v in split.violations] == [
        ('box-flat', 'a.jpg: [10.0, 5.0, 0.0, 20.0]')
    ]
    assert len(split.content['annotations']) == 1


def test_written_files_never_replace_the_data(tmp_path):
    coco_json(tmp_path / 'data' / 'train.json', ['a.jpg', 'b.jpg', 'c.jpg'])
    before = (tmp_path / 'data' / 'train.json').read_text()
    with pytest.raises(UserError, match='is where new splits are written, and has the data: use another'):
        read_training_data(open_dataset(tmp_path / 'data'), tmp_path / 'data')
    assert (tmp_path / 'data' / 'train.json').read_text() == before


def test_a_broken_json_of_a_split_is_an_error(tmp_path):
    coco_json(tmp_path / 'train.json', ['a.jpg', 'b.jpg'])
    write(tmp_path / 'val.json', (tmp_path / 'train.json').read_text()[:100])
    with pytest.raises(UserError, match=r'val\.json is broken JSON'):
        open_dataset(tmp_path)
    (tmp_path / 'val.json').rename(tmp_path / 'notes.json')
    assert [p.name for p in open_dataset(tmp_path).skipped] == ['notes.json']


@pytest.mark.parametrize(('listed', 'other'), [('train', 'val'), ('val', 'train')])
def test_trainval_without_one_of_its_parts(listed, other, tmp_path):
    for i in range(4):
        save_image(tmp_path / 'JPEGImages' / f'{i}.jpg', i)
        write(tmp_path / 'Annotations' / f'{i}.xml', xml(f'{i}.jpg'))
    write(tmp_path / 'ImageSets/Main/trainval.txt', '0\n1\n2\n3\n')
    write(tmp_path / f'ImageSets/Main/{listed}.txt', '1\n2\n')
    splits = open_dataset(tmp_path, (), USED).splits
    names = {name: [i['file_name'] for i in split.content['images']] for name, split in splits.items()}
    assert names == {listed: ['1.jpg', '2.jpg'], other: ['0.jpg', '3.jpg']}


def test_crowds_have_masks_too(tmp_path):
    """As mmdet reads them, and as the check before training says."""
    coco_json(tmp_path / 'all.json', ['a.jpg', 'bb.jpg', 'ccc.jpg'])
    content = json.loads((tmp_path / 'all.json').read_text())
    for a in content['annotations']:
        a['segmentation'] = [[10, 5, 30, 5, 30, 25, 10, 25]]
    content['annotations'][0] |= dict(iscrowd=1)
    del content['annotations'][0]['segmentation']
    write(tmp_path / 'all.json', json.dumps(content))
    with pytest.raises(UserError, match='1 of 6 objects have no mask'):
        read_training_data(open_dataset(tmp_path / 'all.json'), tmp_path / 'out', write=False)


@pytest.mark.realdata
@pytest.mark.parametrize('name', ['coco_mini128', 'coco_pixabay61', 'voc_bccd364', 'camvid_mini'])
def test_real_data_is_recognized(name, real_data):
    splits = open_dataset(real_data / name).splits
    assert {'train', 'val'} <= splits.keys() <= {'train', 'val', 'test', 'instances_all'}
    assert all(split.check('exists') is not None for split in splits.values())
