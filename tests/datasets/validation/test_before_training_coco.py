import json

import pytest

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.datasets.validation.before_training import check_coco
from fastervit_backbone.utils.errors import UserError


@pytest.fixture
def shapes(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=2, val=1)
    return root / 'annotations' / 'instances_train.json', root / 'images' / 'train'


def test_good_data(shapes):
    assert check_coco(*shapes, classes=['circle', 'square', 'triangle']) == 2


@pytest.mark.parametrize(
    ('damage', 'told'),
    [
        (
            lambda ann, images: ann.unlink(),
            r'no annotations at /.*instances_train\.json: get train2017\.zip.*COCO_ROOT',
        ),
        (lambda ann, images: images.rename(images.with_name('else')), r'no image folder at /.*images/train'),
        (lambda ann, images: ann.write_text(ann.read_text()[:-40]), r'broken JSON \(.*line 1 column'),
        (
            lambda ann, images: ann.write_text('[1, 2]'),
            'not COCO: it has no list images, annotations, categories',
        ),
        (
            lambda ann, images: ann.write_text(json.dumps(dict(images=[], annotations=[], categories=[]))),
            'no categories: nothing can be learned',
        ),
        (
            lambda ann, images: ann.write_text(
                json.dumps(json.loads(ann.read_text()) | dict(annotations=[]))
            ),
            r'instances_train\.json: no annotations: nothing to learn or to score',
        ),
        (
            lambda ann, images: (images / '000002.png').unlink(),
            r'images that do not exist \(1 of 2, the first is 000002\.png in /.*\): .*check-data .*',
        ),
    ],
)
def test_bad_data_is_named(shapes, damage, told):
    damage(*shapes)
    with pytest.raises(UserError, match=told) as error:
        check_coco(*shapes)
    assert '\n' not in str(error.value)


def test_misspelt_classes_are_named_with_the_nearest(shapes):
    with pytest.raises(UserError, match=r"no category 'triangel' .*did you mean 'triangle'\?"):
        check_coco(*shapes, classes=['circle', 'triangel'])


def test_classes_in_another_order_would_be_swapped(shapes):
    with pytest.raises(UserError, match=r"another order .*: write \['circle', 'triangle'\]"):
        check_coco(*shapes, classes=['triangle', 'circle'])


ABSENT = object()


@pytest.mark.parametrize(
    ('part', 'change', 'told'),
    [
        (
            'images',
            dict(file_name=ABSENT),
            r'images without an integer id and a file_name \(images\[1\]: \{"id": 2',
        ),
        ('images', dict(file_name=7), r'images without an integer id and a file_name \(images\[1\]'),
        ('images', dict(width=ABSENT), r'000002\.png: width null, height 128'),
        ('images', dict(id=1), r'image ids that occur .* \(1: 000002\.png\)'),
        ('categories', 'circle', r'categories without an integer id.* \(categories\[1\]: "circle"\)'),
        ('annotations', None, r'annotations that are not JSON objects \(annotations\[1\]: null\)'),
        ('annotations', dict(bbox=ABSENT), r'boxes that are not four finite numbers.*\(annotation 2\)'),
        ('annotations', dict(bbox=[1, 2, 3]), r'annotation 2: bbox \[1, 2, 3\]\)'),
        ('annotations', dict(bbox=[1, 2, 3, float('nan')]), r'annotation 2: bbox \[1, 2, 3, NaN\]\)'),
        ('annotations', dict(area=ABSENT), r'annotations without area, which mmdet reads \(annotation 2\)'),
        ('annotations', dict(category_id=9), r'not in categories \(annotation 2: category_id 9\)'),
        ('annotations', dict(image_id='a'), r'not in images \(annotation 2: image_id "a"\)'),
    ],
)
def test_a_broken_entry_is_named(shapes, part, change, told):
    content = json.loads(shapes[0].read_text())
    if isinstance(change, dict):
        entry = content[part][1] | change
        content[part][1] = {k: v for k, v in entry.items() if v is not ABSENT}
    else:
        content[part][1] = change
    shapes[0].write_text(json.dumps(content))
    with pytest.raises(
        UserError,
        match=told + '.*: `fastervit check-data .*` lists all problems; with --fix OUT it also writes',
    ):
        check_coco(*shapes)


def test_a_mark_at_the_beginning_of_the_file_is_fine(shapes):
    shapes[0].write_text(shapes[0].read_text(), encoding='utf-8-sig')
    assert check_coco(*shapes) == 2


def test_large_files_are_read_whole(shapes):
    """A json of 100 MB, as large as COCO's own, with its classes in another order than the config's."""
    content = shapes[0].read_text()
    shapes[0].write_text(content[:-1] + ' ' * (101 * 2**20) + content[-1])
    assert check_coco(*shapes, ['circle', 'square', 'triangle']) == 2
    with pytest.raises(UserError, match=r"another order .*write \['circle', 'square', 'triangle'\]"):
        check_coco(*shapes, ['square', 'circle', 'triangle'])
    shapes[0].write_text(content[:-40] + ' ' * (101 * 2**20))
    with pytest.raises(UserError, match='broken JSON'):
        check_coco(*shapes)


def test_images_without_objects_are_fine_unless_all_are_so(shapes):
    content = json.loads(shapes[0].read_text())
    first = content['annotations'][0]
    others = [i['id'] for i in content['images'] if i['id'] != first['image_id']]
    crowd = dict(first, id=9, image_id=others[0], iscrowd=1)
    shapes[0].write_text(json.dumps(content | dict(annotations=[first, crowd])))
    assert check_coco(*shapes) == check_coco(*shapes, need_objects=True) == 2
    shapes[0].write_text(json.dumps(content | dict(annotations=[dict(first, iscrowd=1)])))
    with pytest.raises(UserError, match='whose every object is a crowd'):
        check_coco(*shapes)


def test_objects_without_masks_are_fine_unless_masks_are_learnt(shapes):
    content = json.loads(shapes[0].read_text())
    del content['annotations'][1]['segmentation']
    shapes[0].write_text(json.dumps(content))
    assert check_coco(*shapes) == 2
    with pytest.raises(UserError, match=r'1 of \d+ annotations have no segmentation.*id 2\)'):
        check_coco(*shapes, need_masks=True)


@pytest.mark.realdata
@pytest.mark.parametrize('name', ['train', 'val'])
def test_real_coco(real_data, name):
    root = real_data / 'coco_mini128'
    assert (
        check_coco(
            root / 'annotations' / f'instances_{name}2017.json',
            root / f'{name}2017',
            ['person', 'toothbrush'],
        )
        > 40
    )
