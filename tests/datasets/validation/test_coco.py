"""Every kind of broken COCO data is found and named; repaired copies are clean.

No input ends in a traceback.
"""

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from fastervit_backbone.datasets.validation.coco import check_coco_split, read_split
from fastervit_backbone.datasets.validation.compare import compare_splits
from fastervit_backbone.datasets.validation.findings import overlap
from fastervit_backbone.datasets.validation.repair import repair
from fastervit_backbone.evaluation.coco_files import read_truth
from fastervit_backbone.structures.prediction import encode_mask
from fastervit_backbone.utils.errors import UserError
from tests.helpers import assert_one_line_error
from tests.processes import verb

GOOD = dict(
    images=[dict(id=i, file_name=f'{i}.png', width=40, height=30) for i in (1, 2, 3)],
    categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    annotations=[
        dict(
            id=1,
            image_id=1,
            category_id=1,
            bbox=[2, 3, 10, 12],
            area=120,
            iscrowd=0,
            segmentation=[[2, 3, 12, 3, 12, 15, 2, 15]],
        ),
        dict(
            id=2,
            image_id=2,
            category_id=2,
            bbox=[0, 0, 40, 30],
            area=1200,
            iscrowd=0,
            segmentation=[[0, 0, 40, 0, 40, 30]],
        ),
        dict(
            id=3,
            image_id=3,
            category_id=1,
            bbox=[5, 5, 5, 5],
            area=25,
            iscrowd=0,
            segmentation=[[5, 5, 10, 5, 10, 10]],
        ),
    ],
)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for i in (1, 2, 3):
        Image.fromarray(np.full((30, 40, 3), 60 * i, np.uint8)).save(folder / f'{i}.png')
    (folder / 'copy.png').write_bytes((folder / '1.png').read_bytes())
    (folder / 'cut.png').write_bytes((folder / '1.png').read_bytes()[:60])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / 'turned.jpg', exif=exif)
    return folder


def look(content, images, tmp_path, name='train'):
    path = tmp_path / f'{name}.json'
    path.write_text(json.dumps(content))
    split = read_split(name, path, images)
    check_coco_split(split)
    return split


def kinds(split, level=None):
    return {f.kind for f in split.findings if level in (None, f.level)}


def test_good_data_has_nothing_to_remark(images, tmp_path):
    split = look(GOOD, images, tmp_path)
    assert split.findings == [] and split.counts() == {'cat': 2, 'dog': 1}


def at(path, value):
    """A change: ``at('annotations.0.bbox', ...)``; a callable gets what is there; DROP takes it out."""

    def change(content):
        *parents, last = (int(p) if p.isdigit() else p for p in path.split('.'))
        for part in parents:
            content = content[part]
        if value is DROP:
            del content[last]
        else:
            content[last] = value(content[last]) if callable(value) else value

    return change


def run_lengths(height, width):
    """A compressed code of a mask that is full, said to be of 30x40 pixels."""
    code = coco_mask.encode(np.ones((height, width), np.uint8, order='F'))
    return dict(size=[30, 40], counts=code['counts'].decode())


DROP = object()
CORPUS = [
    ('error', 'category-bad', at('categories.0.id', '1')),
    ('error', 'category-bad', at('categories.0.name', '')),
    ('error', 'category-bad', at('categories', lambda c: [*c, 7])),
    ('error', 'category-id-twice', at('categories.1.id', 1)),
    ('error', 'category-name-twice', at('categories.1.name', 'cat')),
    (
        'error',
        'category-name-twice',
        at('categories', lambda c: [dict(id=7, name='Cat'), *c, dict(id=9, name='cat')]),
    ),
    ('warning', 'category-name-alike', at('categories.1.name', 'Cat ')),
    ('error', 'no-categories', at('categories', [])),
    ('note', 'category-id-zero', at('categories', lambda c: [dict(id=0, name='x'), *c])),
    ('note', 'category-id-gaps', at('categories', lambda c: [*c, dict(id=9, name='x')])),
    ('error', 'image-bad', at('images.0.file_name', None)),
    ('error', 'image-bad', at('images.0.id', 1.5)),
    ('error', 'image-bad', at('images', lambda i: [*i, 'x'])),
    ('error', 'image-id-twice', at('images.1.id', 1)),
    ('error', 'image-name-twice', at('images.1.file_name', '1.png')),
    ('error', 'image-size-bad', at('images.0.width', 0)),
    ('error', 'image-size-bad', at('images.0.height', DROP)),
    ('error', 'image-size-differs', at('images.0.width', 41)),
    ('error', 'image-missing', at('images.0.file_name', 'absent.png')),
    ('error', 'image-unreadable', at('images.0.file_name', 'cut.png')),
    ('warning', 'image-content-twice', at('images.1.file_name', 'copy.png')),
    ('error', 'no-images', at('images', [])),
    ('error', 'annotation-bad', at('annotations.0', None)),
    ('error', 'annotation-id-bad', at('annotations.0.id', None)),
    ('error', 'annotation-id-bad', at('annotations.0.id', '1')),
    ('error', 'annotation-id-bad', at('annotations.0.id', True)),
    ('error', 'annotation-id-zero', at('annotations.0.id', 0)),
    ('error', 'annotation-id-twice', at('annotations.1.id', 1)),
    ('error', 'annotation-image-unknown', at('annotations.0.image_id', 99)),
    ('error', 'annotation-image-unknown', at('annotations.0.image_id', [1])),
    ('error', 'annotation-image-unknown', at('annotations.0.image_id', True)),
    ('error', 'annotation-image-unknown', at('annotations.0.image_id', '1')),
    ('error', 'annotation-category-unknown', at('annotations.0.category_id', 99)),
    ('error', 'annotation-category-unknown', at('annotations.0.category_id', {})),
    ('error', 'box-bad', at('annotations.0.bbox', [1, 2, 3])),
    ('error', 'box-bad', at('annotations.0.bbox', [1, 2, float('nan'), 3])),
    ('error', 'box-bad', at('annotations.0.bbox', DROP)),
    ('error', 'box-bad', at('annotations.0.bbox', ['1', '2', '3', '4'])),
    ('warning', 'box-flat', at('annotations.0.bbox', [5, 5, 0, 4])),
    ('error', 'box-negative', at('annotations.0.bbox', [5, 5, -3, 4])),
    ('error', 'box-outside', at('annotations.0.bbox', [50, 5, 10, 10])),
    ('warning', 'box-reaches-out', at('annotations.0.bbox', [35, 5, 10, 10])),
    ('warning', 'box-tiny', at('annotations.0.bbox', [5, 5, 0.4, 4])),
    ('error', 'area-missing', at('annotations.0.area', DROP)),
    ('error', 'area-bad', at('annotations.0.area', 'large')),
    ('warning', 'iscrowd-missing', at('annotations.0.iscrowd', DROP)),
    ('warning', 'iscrowd-missing', at('annotations.0.iscrowd', None)),
    ('warning', 'iscrowd-missing', at('annotations.0.iscrowd', [1])),
    ('error', 'all-crowds', lambda c: [a.update(iscrowd=1) for a in c['annotations']]),
    ('note', 'crowds', at('annotations.0.iscrowd', 1)),
    ('note', 'mask-none', at('annotations.0.segmentation', [])),
    ('error', 'mask-bad', at('annotations.0.segmentation', 'polygon')),
    ('error', 'mask-bad', at('annotations.0.segmentation', [2, 3, 4, 5, 6, 7])),
    ('error', 'mask-bad', at('annotations.0.segmentation', dict(size=[30, 40], counts=[5, 5]))),
    ('error', 'mask-size', at('annotations.0.segmentation', dict(size=[40, 30], counts=[1200]))),
    ('error', 'mask-bad', at('annotations.0.segmentation', dict(size=[30, 40], counts='h'))),
    ('error', 'mask-bad', at('annotations.0.segmentation', run_lengths(30, 41))),
    ('warning', 'mask-empty', at('annotations.0.segmentation', dict(size=[30, 40], counts=[1200]))),
    ('warning', 'mask-reaches-out', at('annotations.0.segmentation', [[1, 2, 9, 2, 9, 300]])),
    ('warning', 'mask-reaches-out', at('annotations.0.segmentation', [[-9, 2, 9, 2, 9, 20]])),
    ('warning', 'mask-off-box', at('annotations.0.segmentation', [[30, 20, 39, 20, 39, 29]])),
    ('warning', 'mask-off-box', at('annotations.0.segmentation', run_lengths(30, 40))),
    ('warning', 'masks-partly', at('annotations.0.segmentation', DROP)),
    ('error', 'category-id-huge', at('categories.0.id', 2**53)),
    ('error', 'image-id-huge', at('images.0.id', 2**60 + 1)),
    ('error', 'annotation-id-huge', at('annotations.0.id', 2**53 + 1)),
    ('error', 'polygon-bad', at('annotations.0.segmentation', [[1, 2, 3, 4, 5, None]])),
    ('error', 'polygon-bad', at('annotations.0.segmentation', [[1, 2, 3, 4, 5, 6, 7]])),
    ('error', 'polygon-short', at('annotations.0.segmentation', [[1, 2, 3, 4]])),
    ('error', 'no-annotations', at('annotations', [])),
    ('note', 'image-empty', at('annotations.2', DROP)),
]


#: What no repair can bring.
NOTHING_LEFT = {'no-categories', 'no-images', 'no-annotations', 'all-crowds'}
#: What only the one who knows the data can repair.
NOTHING_LEFT |= {'image-id-twice', 'category-id-twice'}


@pytest.mark.parametrize(
    ('level', 'kind', 'change'), CORPUS, ids=[f'{i}-{kind}' for i, (_, kind, _) in enumerate(CORPUS)]
)
def test_each_is_found_and_repaired(level, kind, change, images, tmp_path):
    content = copy.deepcopy(GOOD)
    change(content)
    split = look(content, images, tmp_path)
    assert kind in kinds(split, level), split.findings
    assert all('\n' not in f.line() for f in split.findings)
    before = copy.deepcopy(split.content)
    mended = look(repair(split), images, tmp_path, 'mended')
    assert kinds(mended, 'error') <= NOTHING_LEFT, mended.findings
    assert repr(split.content) == repr(before)  # what was read stays (nan is not itself)
    if level == 'error' and kind not in NOTHING_LEFT:
        assert split.changes


def test_repairs(images, tmp_path):
    content = copy.deepcopy(GOOD)
    content['annotations'][0] |= dict(bbox=[-4, 25, 20, 20], segmentation=[[1, 1, 2, 2], [1, 1, 5, 1, 5, 5]])
    content['annotations'][1]['id'] = 1
    del content['annotations'][2]['area']
    split = look(content, images, tmp_path)
    mended = repair(split)
    assert mended['annotations'][0]['bbox'] == [0, 25, 16, 5] and mended['annotations'][0][
        'segmentation'
    ] == [[1, 1, 5, 1, 5, 5]]
    assert [a['id'] for a in mended['annotations']] == [1, 4, 3] and mended['annotations'][2]['area'] == 25
    assert len(split.changes) == 4


def test_another_shape_is_not_repaired(images, tmp_path):
    """Nothing explains it: coordinates, size and boxes that reach out stay, and the check still fails."""
    content = copy.deepcopy(GOOD)
    content['images'][0]['width'] = 99
    content['annotations'][0]['bbox'] = [30, 5, 60, 10]
    split = look(content, images, tmp_path)
    mended = repair(split)
    assert mended['images'][0]['width'] == 99 and mended['annotations'][0]['bbox'] == [30, 5, 60, 10]
    assert 'size 99x30, file 40x30: neither scaled nor turned: annotate it again' in split.changes[0]
    assert 'image-size-differs' in kinds(look(mended, images, tmp_path))


def marked(folder, orientation):
    """A stored image of 40x30 with a bright object; its annotation on the stored pixels."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[4:10, 20:36] = 255
    mask = pixels[..., 0] > 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / 'marked.png', exif=exif)
    code = encode_mask(mask)
    shapes = ([[20, 4, 36, 4, 36, 10, 20, 10]], dict(code, counts=code['counts'].decode()))
    entry = dict(image_id=1, category_id=1, bbox=[20, 4, 16, 6], area=96, iscrowd=0, keypoints=[20, 4, 2])
    annotations = [dict(entry, id=i, segmentation=shape) for i, shape in enumerate(shapes, 1)]
    return dict(
        images=[dict(id=1, file_name='marked.png', width=40, height=30)],
        annotations=annotations,
        categories=[dict(id=1, name='cat')],
    )


def check_moved(mended, folder, scale=1):
    """Box, polygon and mask are where the object is in the upright image."""
    with Image.open(folder / 'marked.png') as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert('L')) > 128
    y, x = np.nonzero(upright)
    box = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
    size = upright.shape
    for a in mended['annotations']:
        assert a['bbox'] == pytest.approx(box) and a['area'] == pytest.approx(96 * scale**2)
        shape = a['segmentation']
        code = coco_mask.merge(coco_mask.frPyObjects(shape, *size)) if isinstance(shape, list) else shape
        assert (coco_mask.decode(code).astype(bool) == upright).all()
        corners = {(box[0] + i * box[2], box[1] + j * box[3]) for i in (0, 1) for j in (0, 1)}
        assert tuple(a['keypoints'][:2]) in corners and a['keypoints'][2] == 2
    assert (mended['images'][0]['height'], mended['images'][0]['width']) == size


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_annotations_are_turned_with_their_image(orientation, tmp_path):
    content = marked(tmp_path, orientation)
    split = look(content, tmp_path, tmp_path)
    mended = repair(split)
    check_moved(mended, tmp_path)
    assert f'size 40x30 -> 30x40, boxes and masks turned with it (EXIF orientation {orientation})' in str(
        split.changes
    )
    assert content['annotations'][0]['bbox'] == [20, 4, 16, 6]  # the input is not changed
    mended['images'][0] |= dict(width=40, height=30)  # annotated upright, size as stored
    mended['annotations'][0]['bbox'] = [2, 30, 6, 8]
    only_size = repair(look(mended, tmp_path, tmp_path))
    assert only_size['annotations'][0]['bbox'] == [2, 30, 6, 8] and only_size['images'][0]['width'] == 30


def test_annotations_are_scaled_with_their_image(tmp_path):
    content = marked(tmp_path, 1)
    with Image.open(tmp_path / 'marked.png') as image:
        half = image.resize((20, 15), Image.Resampling.NEAREST)
    half.save(tmp_path / 'marked.png')
    split = look(content, tmp_path, tmp_path)
    check_moved(repair(split), tmp_path, scale=0.5)
    assert 'size 40x30 -> 20x15, boxes and masks scaled with it' in split.changes[0]


def test_a_turned_image(images, tmp_path):
    content = copy.deepcopy(GOOD)
    content['images'][0] |= dict(file_name='turned.jpg', width=30, height=40)
    content['annotations'][0] |= dict(bbox=[1, 1, 5, 5], segmentation=[[1, 1, 6, 1, 6, 6]])
    assert kinds(look(content, images, tmp_path)) == set()
    content['images'][0] |= dict(width=40, height=30)
    (finding,) = look(content, images, tmp_path).findings
    assert finding.kind == 'image-size-differs' and 'before EXIF rotates it' in finding.examples[0]


def test_between_splits(images, tmp_path):
    train = look(GOOD, images, tmp_path)
    other = copy.deepcopy(GOOD)
    other['images'] = [dict(other['images'][0], file_name='copy.png')]
    other['annotations'] = other['annotations'][:1]
    other['categories'] = [dict(id=2, name='cat'), dict(id=1, name='dogs')]
    val = look(other, images, tmp_path, 'val')
    findings = compare_splits([train, val]) + overlap([(s.name, s.hashes) for s in (train, val)])
    found = {f.kind: f for f in findings}
    assert set(found) == {'classes-differ', 'ids-differ', 'splits-overlap'}
    assert (
        "did you mean 'dogs'?" in str(found['classes-differ'].examples) and found['classes-differ'].count == 2
    )
    assert found['splits-overlap'].examples == ('1.png in train = copy.png in val',)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 50)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(['1.png', 'cut.png', 'cat']),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(['id', 'name', 'size', 'counts', 'bbox']), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [
    'id',
    'name',
    'file_name',
    'width',
    'height',
    'image_id',
    'category_id',
    'bbox',
    'area',
    'iscrowd',
    'segmentation',
]
RECORD = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8) | JSON


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    content=st.fixed_dictionaries(
        dict(
            images=st.lists(RECORD, max_size=3),
            categories=st.lists(RECORD, max_size=3),
            annotations=st.lists(RECORD, max_size=3),
        )
    ),
    keep=st.sets(st.sampled_from(['images', 'categories', 'annotations'])),
    extra=st.sampled_from(FIELDS),
    value=JSON,
)
def test_no_json_ends_in_a_traceback(content, keep, extra, value, images, tmp_path):
    content = content | {k: copy.deepcopy(GOOD[k]) for k in keep}
    for part in keep:
        content[part][0][extra] = value
    split = look(content, images, tmp_path)
    compare_splits([split, split])
    split.counts()
    mended = look(repair(split), images, tmp_path, 'mended')
    assert kinds(mended, 'error') <= {*NOTHING_LEFT, 'image-size-differs'}, (
        content,
        mended.findings,
    )


def test_the_tool(images, tmp_path):
    good, bad = tmp_path / 'good.json', tmp_path / 'bad.json'
    good.write_text(json.dumps(GOOD))
    content = copy.deepcopy(GOOD)
    content['annotations'][0]['bbox'] = [50, 5, 10, 10]
    bad.write_text(json.dumps(content))
    (tmp_path / 'broken.json').write_text('{"images": [')
    (tmp_path / 'list.json').write_text('[]')
    run = lambda *arguments: verb('check-data', *arguments, '--images', images, cwd=tmp_path)  # noqa: E731
    done = run('--train', good)
    assert done.returncode == 0 and 'no problems found' in done.stdout and 'cat' in done.stdout, done.stderr
    done = run('--train', bad, '--fix', 'fixed', '--json', 'found.json')
    assert (
        done.returncode == 1
        and 'error: train: boxes entirely outside their images (annotation 1: bbox [50, 5, 10, 10])'
        in done.stdout
    )
    assert json.loads((tmp_path / 'found.json').read_text())[0]['kind'] == 'box-outside'
    assert (
        'annotation 1: bbox [50, 5, 10, 10]: box-outside, removed'
        in (tmp_path / 'fixed' / 'changes.log').read_text()
    )
    assert run('--train', 'fixed/train.json').returncode == 0
    for arguments, told in (
        (['--train', 'absent.json'], r'no file or folder at \S+absent\.json: correct --train'),
        (['--train', 'broken.json'], 'broken JSON'),
        (['--train', 'list.json'], 'not COCO'),
        ([], 'nothing to check'),
        (['--train', good, '--val', images], 'is a folder and .* is not'),
        (['--train', 'fixed/train.json', '--fix', 'fixed'], 'name another folder'),
    ):
        assert_one_line_error(run(*arguments), told)


def test_real_data(real_data, tmp_path):
    """coco_pixabay61 has three two-point polygons and no other error; its repaired copy has none."""
    root = real_data / 'coco_pixabay61'
    split = read_split('all', root / 'annotations' / 'instances_all.json', root / 'images')
    assert [(f.kind, f.count) for f in check_coco_split(split) if f.level == 'error'] == [
        ('polygon-short', 3)
    ]
    (tmp_path / 'all.json').write_text(json.dumps(repair(split)))
    mended = read_split('all', tmp_path / 'all.json', root / 'images')
    assert not [f for f in check_coco_split(mended) if f.level == 'error']
    mini = real_data / 'coco_mini128'
    splits = [
        read_split(n, mini / 'annotations' / f'instances_{n}2017.json', mini / f'{n}2017')
        for n in ('train', 'val')
    ]
    assert not [f for s in splits for f in check_coco_split(s) if f.level == 'error']
    assert not overlap([(s.name, s.hashes) for s in splits])


def test_unreadable_split(tmp_path, images):
    with pytest.raises(UserError, match='no image folder'):
        (tmp_path / 'a.json').write_text(json.dumps(GOOD))
        read_split('train', tmp_path / 'a.json', tmp_path / 'absent')


def test_contact_sheet(tmp_path):
    pytest.importorskip('supervision')
    from fastervit_backbone.datasets.shapes import make_shapes
    from fastervit_backbone.datasets.validation.label_maps import (
        LabelMapSplit,
        LabelValues,
        check_label_map_split,
    )
    from fastervit_backbone.visualization.contact_sheet import write_sheet

    shapes = make_shapes(tmp_path / 'shapes', train=14, val=2, size=(64, 96))
    path = shapes / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['segmentation'] = [[1, 2, 3, 4]]  # which nothing can draw
    content['annotations'][1]['bbox'] = 'nowhere'
    path.write_text(json.dumps(content))
    splits = [
        read_split(s, shapes / 'annotations' / f'instances_{s}.json', shapes / 'images' / s)
        for s in ('train', 'val')
    ]
    for split in splits:
        check_coco_split(split)
    with Image.open(write_sheet(splits, tmp_path / 'sheet.png')) as sheet:
        assert sheet.width == 1680 and sheet.height == 4 * (280 + 16)  # 12 + 2 images, four in a row
        assert len(sheet.crop((0, 16, 420, 296)).getcolors(10**6)) > 1000
    maps = LabelMapSplit('train', shapes / 'images' / 'train', shapes / 'labels' / 'train')
    check_label_map_split(maps, LabelValues(None))
    first = sorted(maps.images.iterdir())[0]
    first.write_bytes(first.read_bytes()[:99])  # is left out
    names = ['circle', 'square', 'triangle']
    for reduce, told in ((False, ['background', *names]), (True, names)):
        write_sheet([maps], tmp_path / f'{reduce}.png', told, reduce_zero_label=reduce)
    with Image.open(tmp_path / 'False.png') as plain, Image.open(tmp_path / 'True.png') as reduced:
        assert plain.size == reduced.size == (1680, 3 * (280 + 16))
        grey = np.asarray(plain.convert('RGB'), int) - np.asarray(reduced.convert('RGB'), int)
        assert np.abs(grey).max() > 20  # the background is drawn in one only
    with pytest.raises(UserError, match=r'--sheet a\.gif: the name must end in \.jpg or \.png'):
        write_sheet(splits, 'a.gif')


def test_a_number_too_large_for_a_float(tmp_path):
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (10, 10)).save(tmp_path / 'images' / 'a.png')
    big = 10**400
    content = dict(
        images=[dict(id=1, file_name='a.png', width=10, height=10)],
        categories=[dict(id=1, name='a')],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, big, 1], area=big)],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    found = check_coco_split(read_split('train', tmp_path / 'a.json', tmp_path / 'images'))
    assert [f.kind for f in found if f.level == 'error'] == ['box-bad', 'area-bad']


def test_an_annotation_with_id_zero(images, tmp_path):
    """pycocotools takes it for "no object": said, renumbered by --fix and by our own reader."""
    content = copy.deepcopy(GOOD)
    content['annotations'][0]['id'] = 0
    split = look(content, images, tmp_path)
    assert kinds(split, 'error') == {'annotation-id-zero'}
    fixed = repair(split)
    assert [a['id'] for a in fixed['annotations']] == [4, 2, 3] and split.changes == [
        'annotation 0: annotation-id-zero, id -> 4'
    ]
    assert kinds(look(fixed, images, tmp_path), 'error') == set()
    truth = read_truth(split.path)
    assert sorted(truth.anns) == [2, 3, 4] and truth.anns[4]['category_id'] == 1
    content['annotations'][1]['id'] = 0  # several: the error that stops a training is said too
    again = look(content, images, tmp_path)
    assert kinds(again, 'error') == {'annotation-id-zero', 'annotation-id-twice'}
    assert sorted(a['id'] for a in repair(again)['annotations']) == [3, 4, 5]
    assert sorted(read_truth(again.path).anns) == [3, 4, 5]


def scaled(boxes, size=(100, 100)):
    """Images of 200x200 pixels whose json says another size."""
    images = [dict(id=i, file_name=f'{i}.png', width=size[0], height=size[1]) for i in range(len(boxes))]
    box = dict(category_id=1, area=1, iscrowd=0)
    annotations = [box | dict(id=i + 1, image_id=i, bbox=b) for i, b in enumerate(boxes)]
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='cat')])


def test_boxes_that_are_in_the_files_pixels_stay(tmp_path):
    boxes = [[120, 120, 50, 50], [10, 10, 20, 20], [150, 20, 90, 20]]
    for i in range(3):
        Image.fromarray(np.full((200, 200, 3), 60 * i, np.uint8)).save(tmp_path / f'{i}.png')
    split = look(scaled(boxes), tmp_path, tmp_path)
    mended = repair(split)
    assert [a['bbox'] for a in mended['annotations']] == [boxes[0], [20, 20, 40, 40], boxes[2]]
    assert 'in which its boxes are already' in split.changes[0] and 'fit neither' in split.changes[2]


def test_one_image_tells_how_a_data_set_is_turned(tmp_path):
    """The first box fits only the upright image: the tool annotated upright, and the others stay, too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(3):
        Image.fromarray(np.full((40, 60, 3), 60 * i, np.uint8)).save(tmp_path / f'{i}.png', exif=exif)
    boxes = [[5, 45, 20, 10], [5, 5, 20, 20], [10, 10, 25, 25]]
    mended = repair(look(scaled(boxes, (60, 40)), tmp_path, tmp_path))
    assert [a['bbox'] for a in mended['annotations']] == boxes
    assert {(i['width'], i['height']) for i in mended['images']} == {(40, 60)}


def test_a_file_that_is_listed_twice_keeps_all_its_objects(images, tmp_path):
    content = copy.deepcopy(GOOD)
    content['images'][1]['file_name'] = '1.png'
    split = look(content, images, tmp_path)
    mended = repair(split)
    assert [a['image_id'] for a in mended['annotations']] == [1, 1, 3] and len(mended['images']) == 2
    assert 'image 2 -> 1: 1 annotations' in split.changes
