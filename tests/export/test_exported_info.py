"""An exported file and its json belong together: a renamed, swapped, cut or edited pair is one line."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip('mmdet')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')

import onnx
from onnx import TensorProto, helper

from fastervit_backbone.export.run import export
from fastervit_backbone.inference.exported import ExportedModel
from fastervit_backbone.inference.exported_info import FORMAT, info_path, read_info, write_info
from fastervit_backbone.inference.predictor import Predictor
from fastervit_backbone.utils.errors import UserError
from tests.helpers import SHALLOW_FPN as FPN


def info(**changes):
    """The json of a classifier of two classes."""
    content = dict(
        format=FORMAT,
        task='classification',
        config='x',
        size=[32, 48],
        bounds=[32, 4096],
        batch=1,
        dtype='uint8',
        normalization={},
        preprocess=dict(resize='exact', scale=[32, 48], crop=None, interpolation='bilinear'),
        outputs=['scores'],
        align_corners=False,
        classes=[dict(id=0, name='a'), dict(id=1, name='b')],
        own_category_ids=True,
        layers={},
        parity={},
    )
    return content | changes


def write_onnx(path, shape=(1, 32, 48, 3), classes=2, dtype=TensorProto.UINT8, name='scores'):
    """A file whose probabilities do not depend on the image."""
    image = helper.make_tensor_value_info('images', dtype, shape)
    result = helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, classes))
    value = helper.make_tensor(
        'v', TensorProto.FLOAT, (1, classes), np.full(classes, 1 / classes, np.float32)
    )
    node = helper.make_node('Constant', [], [name], value=value)
    graph = helper.make_graph([node], 'g', [image], [result])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10), path)


@pytest.fixture
def pair(tmp_path):
    path = tmp_path / 'model.onnx'
    write_onnx(path)
    write_info(path, info())
    return path


def test_a_pair_predicts_and_moves_together(pair, tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    expected = Predictor(pair)([pixels])[0].scores
    other = tmp_path / 'other.onnx'
    shutil.move(pair, other)
    with pytest.raises(UserError, match=r'other\.onnx\.json is missing'):
        Predictor(other)
    shutil.move(info_path(pair), info_path(other))
    assert np.array_equal(Predictor(other)([pixels])[0].scores, expected)


def test_a_file_that_is_not_the_one_described(pair):
    content = pair.read_bytes()
    for changed in (content[:-1], content + b'\0', b''):
        pair.write_bytes(changed)
        with pytest.raises(UserError, match=r'model\.onnx is not the file that model\.onnx\.json describes'):
            Predictor(pair)


@pytest.mark.parametrize('key', [k for k in info() if k not in ('format', 'layers', 'parity')])
def test_an_edited_json(key, pair):
    content = json.loads(info_path(pair).read_text())
    other = dict(
        task='segmentation',
        config='y',
        size=[32, 64],
        bounds=[32, 64],
        batch=2,
        dtype='float32',
        outputs=['x'],
    ) | dict(normalization=dict(a=1), align_corners=True, own_category_ids=False)
    other |= dict(
        preprocess=dict(content['preprocess'], interpolation='bicubic'), classes=content['classes'][::-1]
    )
    info_path(pair).write_text(json.dumps(content | {key: other[key]}))
    with pytest.raises(UserError, match='was changed after the export'):
        Predictor(pair)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(task='detect'), 'task is detect'),
        (dict(task=['detection']), 'task is'),
        (dict(size=[32]), 'size is'),
        (dict(size=['32', '48']), 'size is'),
        (dict(batch='1'), 'batch is 1, expected a number'),
        (dict(batch=0), 'batch is 0'),
        (dict(batch=True), 'batch is True'),
        (dict(dtype='object'), 'dtype is object'),
        (dict(preprocess=dict(resize='exact', scale=5)), 'preprocess is'),
        (dict(preprocess=[]), 'preprocess is'),
        (dict(preprocess=dict(resize='exact', command='x')), 'preprocess is'),
        (dict(outputs='scores'), 'outputs is'),
        (dict(outputs=[]), 'outputs is'),
        (dict(classes=[]), 'has shape of scores'),
        (dict(classes=['a', 'b']), 'classes is'),
        (dict(classes=[dict(id=0, name='a'), dict(id=0, name='b')]), 'different ids'),
        (dict(classes=[dict(id='0', name='a')]), 'classes is'),
        (dict(classes=[dict(id=0, name='a')]), 'has shape of scores'),
        (dict(classes=[dict(id=i, name='a') for i in range(3)]), 'has shape of scores'),
        (dict(size=[32, 64]), 'has shape of images'),
        (dict(batch=2), 'has shape of images'),
        (dict(dtype='float32'), 'has dtype uint8, but'),
        (dict(outputs=['scores', 'boxes']), 'has outputs'),
        (dict(format=1), 'is of another version'),
        (dict(format='2'), 'is of another version'),
        (dict(own_category_ids=1), 'own_category_ids is'),
        (dict(layers=[]), 'layers is'),
        (dict(parity=None), 'parity is'),
    ],
)
def test_a_json_of_another_form_or_of_another_file(changes, message, pair):
    write_info(pair, info(**changes))  # with a right digest: somebody wrote it so
    with pytest.raises(UserError, match=message) as caught:
        ExportedModel(pair)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'broken JSON'),
        ('[]', 'holds a list'),
        ('5', 'holds a int'),
        ('[' * 100_000, 'broken JSON'),
        ('{}', 'another version'),
    ],
)
def test_no_json_at_all(text, message, pair):
    info_path(pair).write_text(text)
    with pytest.raises(UserError, match=message):
        read_info(pair)
    info_path(pair).write_bytes(b'\xff\xfe')
    with pytest.raises(UserError, match='broken JSON'):
        read_info(pair)


@pytest.mark.slow
def test_the_weights_beside_openvino_are_bound_too(fpn, tmp_path):
    pytest.importorskip('openvino')
    path, _ = export(FPN, fpn, tmp_path, size=(64, 96), format='openvino')
    weights = path.with_suffix('.bin')
    pixels = np.zeros((64, 96, 3), np.uint8)
    assert Predictor(path)([pixels])[0].label_map.shape == (64, 96)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # of the same size
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r'\.bin is not the file that .*\.xml\.json describes'):
        Predictor(path)
    weights.unlink()
    with pytest.raises(UserError, match=r'\.bin is missing, without which'):
        Predictor(path)


@pytest.mark.long
@pytest.mark.parametrize(
    'format', ['onnx', *(pytest.param(f, marks=pytest.mark.slow) for f in ('openvino', 'torch-export'))]
)
def test_a_full_disk_is_one_line(format, fpn, images, tmp_path, small_files_only):
    if format == 'openvino':
        pytest.importorskip('openvino')
    with pytest.raises(UserError, match=r'cannot write to .*out: File too large') as caught:
        export(FPN, fpn, tmp_path / 'out', size=(64, 96), format=format, verify=images / 'images/val')
    assert caught.value.exit_code == 2 and '\n' not in str(caught.value)
    assert not list((tmp_path / 'out').iterdir())
