"""One table of rules: whatever breaks one is listed by the checker, and stops training if it is an error."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.check_data import check_data
from fastervit_backbone.datasets.rules import (
    COCO_RULES,
    IMAGE_RULES,
    LABEL_MAP_RULES,
    TOLERATED,
    VOC_RULES,
)
from fastervit_backbone.datasets.validation.before_training import check_coco, check_label_maps, check_voc
from fastervit_backbone.datasets.validation.coco import read_split
from fastervit_backbone.datasets.validation.repair import ACTIONS, repair
from fastervit_backbone.utils.errors import UserError
from tests.datasets.validation.test_coco import CORPUS, GOOD, images  # noqa: F401 (a fixture)

#: In test_label_maps.py and tests/datasets/test_images.py: they need a TIFF, or 16 bits.
TRIED_ELSEWHERE = {'image-channels', 'image-channels-differ', 'image-unsupported', 'image-dark'}
BETWEEN_SPLITS = {'splits-overlap', 'classes-differ', 'ids-differ'}


def findings(tmp_path, *arguments, **options):
    check_data(*arguments, record=tmp_path / 'found.json', **options)
    return json.loads((tmp_path / 'found.json').read_text())


def stops(found, table):
    """The messages at which training must stop; of images it reads only their sizes."""
    rules = [table[f['kind']] for f in found]
    return [
        r.meaning
        for r in rules
        if r.severity == 'error'
        and (r.reads == 'annotations' or r.id == 'image-size-differs')
        and not r.tolerated
    ]


@pytest.mark.parametrize(
    ('level', 'kind', 'change'), CORPUS, ids=[f'{i}-{kind}' for i, (_, kind, _) in enumerate(CORPUS)]
)
def test_checker_and_training_agree_on_coco(level, kind, change, images, tmp_path):  # noqa: F811
    content = copy.deepcopy(GOOD)
    change(content)
    path = tmp_path / 'data.json'
    path.write_text(json.dumps(content))
    found = findings(tmp_path, dict(train=str(path)), [str(images)])
    assert (level, kind) in {(f['level'], f['kind']) for f in found} and COCO_RULES[kind].severity == level
    messages = stops(found, COCO_RULES)
    if not messages:
        assert check_coco(path, images) == len(content['images'])
        return
    with pytest.raises(UserError) as error:
        check_coco(path, images)
    assert any(f'data.json: {message}' in str(error.value) for message in messages), error.value
    assert '\n' not in str(error.value)


def test_every_coco_rule_is_tried():
    corpus = {kind for _, kind, _ in CORPUS}
    assert corpus | BETWEEN_SPLITS | {'class-unused', *TRIED_ELSEWHERE} == set(COCO_RULES)


def label_pair(folder, name, values, image=True):
    rng = np.random.default_rng(len(name))
    for sub in ('images', 'labels'):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    if image:
        pixels = rng.integers(0, 255, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / f'{name}.png')
    Image.fromarray(values).save(folder / 'labels' / f'{name}.png')


def turn(path):
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(path) as image:
        image.save(path, exif=exif)


ZEROS = np.zeros((20, 30), np.uint8)
STRIPES = np.tile(np.arange(3, dtype=np.uint8), (20, 10))
LABEL_MAPS = {
    'no-images': None,  # removes all
    'image-unreadable': lambda f: (f / 'images' / 'a.png').write_bytes(b'x'),
    'image-content-twice': lambda f: (f / 'images' / 'b.png').write_bytes(
        (f / 'images' / 'a.png').read_bytes()
    ),
    'classes-too-many': [f'c{i}' for i in range(256)],
    'image-turned': lambda f: turn(f / 'images' / 'a.png'),
    'label-missing': lambda f: (f / 'labels' / 'a.png').unlink(),
    'label-alone': lambda f: label_pair(f, 'c', STRIPES, image=False),
    'label-unreadable': lambda f: (f / 'labels' / 'a.png').write_bytes(b'x'),
    'label-picture': lambda f: label_pair(f, 'a', np.zeros((20, 30, 3), np.uint8)),
    'label-size': lambda f: label_pair(f, 'a', np.zeros((21, 30), np.uint8)),
    'value-unknown': lambda f: label_pair(f, 'a', STRIPES + 7),
    'value-wide': lambda f: label_pair(f, 'a', STRIPES.astype(np.uint16) + 300),
    'masks-0-255': ['background', 'thing'],
    'all-ignored': lambda f: [label_pair(f, n, np.full((20, 30), 255, np.uint8)) for n in 'ab'],
    'mostly-ignored': lambda f: [
        label_pair(f, n, np.where(STRIPES, 255, ZEROS).astype(np.uint8)) for n in 'ab'
    ],
    'class-absent': ['sky', 'road', 'tree', 'car'],
}


@pytest.mark.parametrize('kind', LABEL_MAPS)
def test_checker_and_training_agree_on_label_maps(kind, tmp_path):
    damage = LABEL_MAPS[kind]
    classes = damage if isinstance(damage, list) else ['sky', 'road', 'tree']
    for name in 'ab':
        label_pair(
            tmp_path,
            name,
            STRIPES if kind != 'masks-0-255' else np.where(STRIPES, 255, ZEROS).astype(np.uint8),
        )
        if kind != 'image-content-twice':
            Image.fromarray(np.full((20, 30, 3), ord(name), np.uint8)).save(
                tmp_path / 'images' / f'{name}.png'
            )
    if callable(damage):
        damage(tmp_path)
    if kind == 'no-images':
        for path in tmp_path.rglob('*.png'):
            path.unlink()
    found = findings(
        tmp_path, dict(train=str(tmp_path / 'labels')), [str(tmp_path / 'images')], classes=classes
    )
    assert kind in {f['kind'] for f in found}
    pairs = [
        (str(tmp_path / 'images' / p.name), str(tmp_path / 'labels' / p.name))
        for p in sorted((tmp_path / 'images').iterdir())
    ]
    if not pairs:  # engine.config.checks refuses an empty folder itself
        return
    errors = [f['message'] for f in found if f['level'] == 'error' and f['kind'] not in TOLERATED]
    if not errors:
        assert check_label_maps(pairs, classes) is None
        return
    with pytest.raises(UserError) as error:
        check_label_maps(pairs, classes)
    assert any(f': {message}' in str(error.value) for message in errors), (error.value, errors)


def test_every_label_map_rule_is_tried():
    # an image that does not exist cannot be listed by a folder
    others = {'image-missing', 'splits-overlap', 'class-ignored', *TRIED_ELSEWHERE}
    assert set(LABEL_MAPS) | others == set(LABEL_MAP_RULES)


BOX = '<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>'


def xml(box=BOX, name='<name>car</name>'):
    size = '<size><width>40</width><height>30</height></size>'
    return f'<annotation>{size}<object>{name}{box}</object></annotation>'


VOC = {
    'image-missing': ('JPEGImages/a.jpg', None),
    'image-unreadable': ('JPEGImages/a.jpg', b'x'),
    'image-content-twice': ('JPEGImages/a.jpg', 'copy'),
    'xml-missing': ('Annotations/a.xml', None),
    'xml-unreadable': ('Annotations/a.xml', b'<annotation>'),
    'no-annotations': ('Annotations/a.xml', b'<annotation/>'),
    'object-incomplete': ('Annotations/a.xml', xml(name='').encode()),
    'number-bad': ('Annotations/a.xml', xml(BOX.replace('30', 'wide')).encode()),
    'box-negative': ('Annotations/a.xml', xml(BOX.replace('30', '0')).encode()),
    'box-flat': ('Annotations/a.xml', xml(BOX.replace('30', '1')).encode()),
    'box-outside': ('Annotations/a.xml', xml(BOX.replace('>1<', '>50<').replace('30', '60')).encode()),
}


@pytest.mark.parametrize('kind', VOC)
def test_checker_and_training_agree_on_voc(kind, tmp_path):
    root = tmp_path / 'VOC2007'
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for i, name in enumerate('ab'):
        Image.fromarray(np.full((30, 40, 3), 50 * i, np.uint8)).save(root / 'JPEGImages' / f'{name}.jpg')
        (root / 'Annotations' / f'{name}.xml').write_text(
            xml() if kind != 'no-annotations' else '<annotation/>'
        )
    (root / 'ImageSets/Main/train.txt').write_text('a\nb\n')
    assert kind == 'no-annotations' or findings(tmp_path, {}, [], data=str(root)) == []
    path, content = root / VOC[kind][0], VOC[kind][1]
    if content == 'copy':
        content = (root / 'JPEGImages' / 'b.jpg').read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    found = findings(tmp_path, {}, [], data=str(root))
    assert kind in {f['kind'] for f in found}
    messages = stops(found, COCO_RULES | VOC_RULES)
    if not messages:
        assert check_voc(tmp_path, 'VOC2007/ImageSets/Main/train.txt', 'VOC2007') == 2
        return
    with pytest.raises(UserError) as error:
        check_voc(tmp_path, 'VOC2007/ImageSets/Main/train.txt', 'VOC2007')
    assert any(f'train.txt: {message}' in str(error.value) for message in messages), (error.value, messages)


def test_every_voc_rule_is_tried():
    # only mmdet's own reader of lists minds these, see test_before_training_voc.py
    of_lists = {'list-bad', 'no-images'}
    assert set(VOC) | {'splits-overlap', *of_lists, *TRIED_ELSEWHERE} == set(VOC_RULES)


def test_the_table_itself():
    """Each repair exists, and each table says the same of images."""
    tables = (COCO_RULES, LABEL_MAP_RULES, VOC_RULES)
    repairs = {rule.repair for table in tables for rule in table.values()}
    assert repairs == {'', 'remove', 'renumber', 'size of the file', *ACTIONS}
    assert all(table.items() >= IMAGE_RULES.items() for table in tables)
    assert TOLERATED == {'annotation-id-zero', 'splits-overlap'}
    assert all('\n' not in rule.meaning and rule.meaning[0].islower() for t in tables for rule in t.values())


def roboflow(root):
    for split in ('train', 'valid'):
        (root / split).mkdir(parents=True)
        Image.fromarray(np.full((30, 40, 3), ord(split[0]), np.uint8)).save(root / split / '1.png')
        content = dict(GOOD, images=GOOD['images'][:1], annotations=GOOD['annotations'][:1])
        (root / split / '_annotations.coco.json').write_text(json.dumps(content))


def coco_layout(root):
    (root / 'annotations').mkdir()
    for split in ('train', 'val'):
        (root / 'images' / split).mkdir(parents=True)
        Image.fromarray(np.full((30, 40, 3), ord(split[0]), np.uint8)).save(root / 'images' / split / '1.png')
        content = dict(GOOD, images=GOOD['images'][:1], annotations=GOOD['annotations'][:1])
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


@pytest.mark.parametrize('layout', [roboflow, coco_layout])
def test_a_folder_of_jsons(layout, tmp_path):
    layout(tmp_path)
    lines, errors = check_data({}, [], data=str(tmp_path))
    assert errors == 0 and lines[0].startswith('COCO jsons: train ') and '; val ' in lines[0]
    assert lines[1].split() == ['class', 'train', 'val']


def test_one_json_finds_its_images(tmp_path):
    coco_layout(tmp_path)
    lines, errors = check_data({}, [], data=str(tmp_path / 'annotations' / 'instances_val.json'))
    assert errors == 0 and lines[0].endswith(f'(images in {tmp_path}/images/val)')
    (tmp_path / 'images' / 'val' / '1.png').unlink()
    with pytest.raises(
        UserError, match=r'instances_val\.json: its first image, 1\.png, is not near it: .*--images DIR'
    ):
        check_data({}, [], data=str(tmp_path / 'annotations' / 'instances_val.json'))
    _, errors = check_data(
        {}, [str(tmp_path / 'images' / 'train')], data=str(tmp_path / 'annotations' / 'instances_val.json')
    )
    assert errors == 0


def test_folders_of_label_maps(tmp_path):
    for split in ('training', 'validation'):
        label_pair(tmp_path / split, 'a' * len(split), STRIPES)
    for part in ('images', 'labels'):
        (tmp_path / part).mkdir()
        for split in ('training', 'validation'):
            (tmp_path / split / part).rename(tmp_path / part / split)
    lines, errors = check_data({}, [], data=str(tmp_path), classes=['sky', 'road', 'tree'])
    assert errors == 0 and lines[0].startswith('label maps: train ') and '2 tree' in lines[4]


@pytest.mark.parametrize(
    ('make', 'options', 'message'),
    [
        (lambda p: None, {}, 'no file or folder at'),
        (lambda p: p.mkdir(), {}, 'holds no COCO json'),
        (
            lambda p: (p.mkdir(), (p / 'data.yaml').write_text('')),
            {},
            r'has no names',
        ),
        (lambda p: p.mkdir(), dict(splits=dict(train='x')), 'give one place, or name the splits'),
    ],
)
def test_places_that_hold_nothing_known(make, options, message, tmp_path):
    make(tmp_path / 'data')
    with pytest.raises(UserError, match=message):
        check_data(options.get('splits', {}), [], data=str(tmp_path / 'data'))


def test_categories_of_one_name_are_merged(images, tmp_path):  # noqa: F811
    content = copy.deepcopy(GOOD)
    content['categories'] = [dict(id=7, name='Cat'), dict(id=1, name='cat'), dict(id=2, name='cat')]
    (tmp_path / 'a.json').write_text(json.dumps(content))
    split = read_split('a', tmp_path / 'a.json', images)
    fixed = repair(split)
    assert [c['id'] for c in fixed['categories']] == [7, 1]
    assert len(fixed['annotations']) == 3 and {a['category_id'] for a in fixed['annotations']} == {1}
    assert split.changes == ['2: cat: category-name-twice, removed', 'category 2 -> 1: 1 annotations']


def test_whole_numbers_written_as_floats(images, tmp_path):  # noqa: F811
    """As pandas writes them."""
    content = copy.deepcopy(GOOD)
    content['images'][0] |= dict(width=40.0, height=30.0)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    assert check_coco(tmp_path / 'a.json', images) == 3
    assert findings(tmp_path, dict(train=str(tmp_path / 'a.json')), [str(images)]) == []


def test_cocos_own_folder(tmp_path):
    """Other jsons beside instances_*.json describe the same images."""
    coco_layout(tmp_path)
    for split in ('train', 'val'):
        source = tmp_path / 'annotations' / f'instances_{split}.json'
        (tmp_path / 'annotations' / f'person_keypoints_{split}.json').write_text(source.read_text())
    lines, errors = check_data({}, [], data=str(tmp_path))
    assert errors == 0 and 'not checked: person_keypoints_train.json, person_keypoints_val.json' in lines[0]


def test_folders_that_name_no_split(tmp_path):
    roboflow(tmp_path)
    (tmp_path / 'train').rename(tmp_path / 'first')
    (tmp_path / 'valid').rename(tmp_path / 'second')
    lines, errors = check_data({}, [], data=str(tmp_path))
    assert errors == 0 and lines[1].split() == ['class', 'first', 'second']


def test_images_of_each_split(tmp_path):
    coco_layout(tmp_path)
    (tmp_path / 'images').rename(tmp_path / 'photos')
    folders = [str(tmp_path / 'photos' / split) for split in ('train', 'val')]
    lines, errors = check_data({}, folders, data=str(tmp_path))
    assert errors == 0 and all(f'images in {folder}' in lines[0] for folder in folders)
    with pytest.raises(UserError, match=r'names 3 folders for 2 splits \(train, val\)'):
        check_data({}, [*folders, 'x'], data=str(tmp_path))
    with pytest.raises(UserError, match=r'no file or folder at .*x\.json: correct --train'):
        check_data(dict(train='x.json'), [])


def test_one_class_and_maps_of_0_and_255(tmp_path):
    """0 is the class: nothing is wrong. With reduce_zero_label nothing is left."""
    label_pair(tmp_path, 'a', np.where(STRIPES == 1, 255, ZEROS).astype(np.uint8))
    pairs = [(str(tmp_path / 'images' / 'a.png'), str(tmp_path / 'labels' / 'a.png'))]
    assert check_label_maps(pairs, ['road']) is None
    with pytest.raises(UserError, match=r'every pixel is ignored: .*\(they hold only 0, 255\)'):
        check_label_maps(pairs, ['road', 'sky'], reduce_zero_label=True)


def test_label_maps_in_folders_are_named_with_them(tmp_path):
    pairs = []
    for city in ('aachen', 'zurich'):
        label_pair(tmp_path / city, '1', STRIPES)
        pairs.append((str(tmp_path / city / 'images' / '1.png'), str(tmp_path / city / 'labels' / '1.png')))
    label_pair(tmp_path / 'zurich', '1', STRIPES + 7)
    with pytest.raises(UserError, match=r'belong to no class \(zurich/labels/1\.png: 7\)'):
        check_label_maps(pairs, ['sky', 'road', 'tree'])
    (tmp_path / 'zurich' / 'images' / '1.png').write_bytes(b'x')
    with pytest.raises(UserError, match=r'read as images \(\S+/zurich/images/1\.png\)'):
        check_label_maps(pairs, ['sky', 'road', 'tree'])


def images_in(folder, names='abc', suffix='.jpg'):
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)).save(folder / f'{name}{suffix}')


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda p: [images_in(p / n) for n in ('images', 'masks')], r'masks as \.jpg: label maps are \.png'),
        (
            lambda p: [images_in(p / n) for n in ('JPEGImages', 'SegmentationClass')],
            'VOC with SegmentationClass',
        ),
        (
            lambda p: [
                images_in(p / 'a'),
                images_in(p / 'b'),
                (p / 'c.xml').write_text(xml()),
                (p / 'a/c.jpg').unlink(),
                (p / 'b/c.jpg').unlink(),
            ],
            r'has \.xml files, such as c\.xml, and no images of their names',
        ),
        (
            lambda p: (
                [images_in(p / n) for n in ('obj_train_data', 'other')]
                + [(p / 'obj_train_data' / 'a.txt').write_text('0 .5 .5 .2 .2\n')]
            ),
            r'YOLO labels, such as obj_train_data/a\.txt, and no data\.yaml',
        ),
        (
            lambda p: (
                [images_in(p / n) for n in ('cats', 'dogs')] + [(p / 'a.json').write_text('{"images": [')]
            ),
            r'a\.json is broken JSON',
        ),
        (lambda p: [images_in(p / 'cats')], 'no two or more folders of images'),
        (
            lambda p: [images_in(p / n) for n in ('cats', 'dogs')] + [(p / 'notes.json').write_text('{}')],
            None,
        ),
    ],
)
def test_no_layout_is_taken_for_classes_of_its_folders(make, message, tmp_path):
    place = tmp_path / 'data'
    make(place)
    if message is None:  # two classes, and a json of something else
        assert check_data({}, [], data=str(place))[0][0].startswith('images in one folder per class')
        return
    with pytest.raises(UserError, match=message) as error:
        check_data({}, [], data=str(place))
    assert '\n' not in str(error.value)
