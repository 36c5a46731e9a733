"""Files that are cut, swapped, huge or hostile: they are read, or refused in one line; nothing is written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastervit_backbone.check_data import check_data
from fastervit_backbone.datasets.dataset import open_dataset
from fastervit_backbone.datasets.images import as_pixels, bits_of, read_image
from fastervit_backbone.datasets.validation.image_files import look
from fastervit_backbone.finetune.read_data import read_training_data
from fastervit_backbone.utils.errors import UserError
from tests.datasets.test_layouts import labelme, save_image, shape, xml, yolo

TRIES = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
#: What a value may be replaced by.
HOSTILE = [
    '1e309',
    '-1',
    '0',
    'nan',
    '9' * 400,
    '../../../etc/passwd',
    '\\0',
    '\x00',
    'é',
    '[]',
    '{}',
    'null',
    '*a',
]


def mutate(content: bytes, draw) -> bytes:
    """Cut, swap, repeat or replace a part of a file."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 40)))
    kind = draw(st.sampled_from(['cut', 'drop', 'repeat', 'swap', 'bytes', 'hostile']))
    middle = content[start:end]
    if kind == 'cut':
        return content[:start]
    if kind == 'repeat':
        middle *= draw(st.integers(2, 200))
    elif kind == 'swap':
        middle = middle[::-1]
    elif kind == 'bytes':
        middle = draw(st.binary(max_size=8))
    elif kind == 'hostile':
        middle = draw(st.sampled_from(HOSTILE)).encode()
    return content[:start] + (b'' if kind == 'drop' else middle) + content[end:]


def coco(root):
    for i in range(3):
        save_image(root / 'images' / f'{i}.jpg', i)
    images = [dict(id=i, file_name=f'{i}.jpg', width=60, height=40) for i in range(3)]
    box = dict(category_id=1, bbox=[5, 5, 20, 20], area=400, iscrowd=0)
    mask = [[5, 5, 25, 5, 25, 25, 5, 25]]
    annotations = [box | dict(id=i + 1, image_id=i, segmentation=mask) for i in range(3)]
    code = dict(size=[40, 60], counts='TR51d0i0Q5')
    annotations[1]['segmentation'] = code
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='a')])
    (root / 'all.json').write_text(json.dumps(content))
    return root / 'all.json'


def voc(root):
    for i in range(3):
        save_image(root / 'JPEGImages' / f'{i}.jpg', i)
        (root / 'Annotations').mkdir(exist_ok=True)
        size = '<size><width>60</width><height>40</height></size>'
        (root / 'Annotations' / f'{i}.xml').write_text(xml(f'{i}.jpg', size=size))
    (root / 'ImageSets' / 'Main').mkdir(parents=True)
    (root / 'ImageSets' / 'Main' / 'train.txt').write_text('0\n1\n2\n')
    return root / 'Annotations' / '1.xml'


def voc_list(root):
    voc(root)
    return root / 'ImageSets' / 'Main' / 'train.txt'


def of_yolo(name):
    def make(root):
        return yolo(root) / name

    return make


def of_labelme(root):
    for i in range(3):
        save_image(root / f'{i}.jpg', i)
        shapes = (shape('rectangle', [[30, 25], [10, 5]]), shape('polygon', [[1, 1], [9, 1], [9, 9]]))
        (root / f'{i}.json').write_text(json.dumps(labelme(f'{i}.jpg', *shapes)))
    return root / '1.json'


def label_maps(root):
    for i in range(3):
        save_image(root / 'images' / f'{i}.png', i)
        (root / 'labels').mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 60), i % 2, np.uint8)).save(root / 'labels' / f'{i}.png')
    (root / 'classes.txt').write_text('a\nb\n')
    return root / 'labels' / '1.png'


LAYOUTS = {
    'coco': coco,
    'voc': voc,
    'voc list': voc_list,
    'yaml': of_yolo('data.yaml'),
    'yolo labels': of_yolo('labels/train/1.txt'),
    'labelme': of_labelme,
    'label maps': label_maps,
}


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*'))


@pytest.mark.parametrize('layout', LAYOUTS)
@TRIES
@given(data=st.data())
def test_no_annotation_file_ends_in_a_traceback(layout, data, tmp_path):
    root = tmp_path / 'data'
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    path = LAYOUTS[layout](root)
    content = path.read_bytes()
    path.write_bytes(mutate(content, data.draw))
    before = files_below(tmp_path)
    for road in (
        lambda: check_data({}, [], data=str(root)),
        lambda: read_training_data(open_dataset(root), tmp_path / 'out', write=False),
    ):
        try:
            road()
        except UserError as error:
            assert '\n' not in str(error).strip() or path.suffix == '.txt', error
    assert files_below(tmp_path) == before


IMAGES = {'a.jpg': {}, 'a.png': {}, 'a.tif': {}, 'a.webp': {}, 'a.bmp': {}}


@pytest.mark.parametrize('name', IMAGES)
@TRIES
@given(data=st.data())
def test_no_image_file_ends_in_a_traceback(name, data, tmp_path):
    path = tmp_path / name
    pixels = np.kron(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, np.ones((6, 6, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, **({} if path.suffix == '.bmp' else dict(exif=exif)))
    content = path.read_bytes()
    path.write_bytes(mutate(content, data.draw))
    found = look(path)
    try:
        read = read_image(path)
        assert found.size == read.shape[1::-1], 'the check and training see the same size'
        assert (as_pixels(Path(path)) == read).all() and bits_of(path) in (8, 10, 12, 14, 16)
    except UserError as error:
        assert str(path) in str(error)
        assert found.problem
