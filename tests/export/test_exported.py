"""What prepares images for an exported file and converts its results, without a model."""

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmcv.transforms import CenterCrop
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets.transforms import ResizeEdge

from fastervit_backbone.datasets.pixel_format import COLOR
from fastervit_backbone.export.describe import _KNOWN_DENSE, _check_resize, _for_classifier, _refuse_others
from fastervit_backbone.inference.exported import ExportedModel
from fastervit_backbone.inference.exported_arrays import label_map_of, paste_mask, resize_channels
from fastervit_backbone.inference.exported_info import read_info, write_info
from fastervit_backbone.utils.errors import UserError
from tests.export.test_exported_info import info


def bare(**info):
    """An exported model without a file."""
    model = ExportedModel.__new__(ExportedModel)
    model.info = dict(bounds=[32, 512], size=None, task='detection') | info
    model.size = tuple(info['size']) if info.get('size') else None
    model.task = info.get('task', 'detection')
    return model


@pytest.mark.parametrize(
    'box', [(3.2, 5.7, 40.1, 22.9), (-8, -3, 12, 70), (10, 10, 10.4, 10.6), (50, 2, 90, 9)]
)
def test_masks_are_pasted_as_mmdet_does(box):
    mask, size = torch.rand(28, 28), (48, 64)
    whole, _ = _do_paste_mask(mask[None, None], torch.tensor([box]), *size, skip_empty=False)
    expected = (whole[0] >= 0.5).numpy()
    found = paste_mask(mask.numpy(), np.array(box, np.float32), size)
    assert (found != expected).sum() <= 1  # 0.5 itself
    assert found.dtype == bool and found.shape == size


def test_a_mask_of_an_empty_box_is_empty():
    assert not paste_mask(np.ones((28, 28)), np.array([5, 5, 5, 9.0]), (20, 20)).any()


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(40, 31), (9, 8), (10, 13)])
def test_channels_are_resized_as_torch_does(align_corners, size):
    x = torch.randn(3, 10, 13)
    expected = torch.nn.functional.interpolate(x[None], size, mode='bilinear', align_corners=align_corners)[0]
    found = resize_channels(x.numpy(), size, align_corners)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_label_maps_leave_out_the_padding():
    logits = torch.randn(4, 8, 10)
    full = torch.nn.functional.interpolate(logits[None], (32, 40), mode='bilinear')[:, :, :30, :40]
    expected = torch.nn.functional.interpolate(full, (60, 80), mode='bilinear').argmax(1)[0].numpy()
    found = label_map_of(logits.numpy(), (32, 40), (30, 40), (60, 80), False)
    assert (found != expected).mean() < 1e-3


def test_an_image_is_fitted_and_padded():
    model = bare(size=[64, 96], preprocess=dict(resize='fit', pad_value=[1, 2, 3]))
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    canvas, inner = model.prepare(pixels)
    assert canvas.shape == (64, 96, 3) and canvas.dtype == np.uint8 and inner == (64, 64)
    assert (canvas[:, :64] == cv2.resize(pixels, (64, 64))[..., ::-1]).all()
    assert (canvas[:, 64:] == [1, 2, 3]).all()
    with pytest.raises(UserError, match='too narrow'):
        model.prepare(np.zeros((1000, 3, 3), np.uint8))


def test_any_size_scales_as_mmcv_does():
    model = bare(size=None, preprocess=dict(resize='edges', scale=[160, 128]))
    for shape, expected in (((100, 200), (80, 160)), ((200, 100), (160, 80)), ((100, 110), (128, 141))):
        canvas, inner = model.prepare(np.zeros((*shape, 3), np.uint8))
        assert canvas.shape[:2] == inner == expected
    with pytest.raises(UserError, match='less than 32 pixels'):
        model.prepare(np.zeros((20, 400, 3), np.uint8))
    model = bare(size=None, preprocess=dict(resize='none', scale=[4096, 4096]))
    assert model.prepare(np.zeros((50, 70, 3), np.uint8))[1] == (50, 70)
    with pytest.raises(UserError, match='at most 512 per side'):
        model.prepare(np.zeros((50, 600, 3), np.uint8))


@pytest.mark.parametrize('shape', [(301, 200), (128, 333)])
def test_classifiers_get_the_pixels_of_mmpretrain(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    steps = dict(resize='edge', edge=64, crop=[56, 56], interpolation='bicubic')
    results = dict(img=pixels, img_shape=shape)
    resize = ResizeEdge(scale=64, edge='short', backend='pillow', interpolation='bicubic')
    expected = CenterCrop(crop_size=56).transform(resize.transform(results))['img']
    canvas, _ = bare(size=[56, 56], preprocess=steps, task='classification').prepare(pixels)
    assert (canvas == expected[..., ::-1]).all()


PIPELINES = {
    'defaults': [dict(type='ResizeEdge', scale=64), dict(type='CenterCrop', crop_size=56)],
    'cv2, bicubic': [
        dict(type='ResizeEdge', scale=60, edge='short', backend='cv2', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=(56, 56)),
    ],
    'exact': [dict(type='Resize', scale=(56, 56))],
    'exact, cropped': [
        dict(type='Resize', scale=(72, 60), backend='pillow'),
        dict(type='CenterCrop', crop_size=56),
    ],
}


@pytest.mark.parametrize('steps', PIPELINES.values(), ids=PIPELINES.keys())
@pytest.mark.parametrize('shape', [(301, 200), (61, 133)])
def test_a_classifiers_file_repeats_the_pipeline(steps, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    results = dict(img=pixels, img_shape=shape)
    for step in steps:
        results = TRANSFORMS.build(dict(step, _scope_='mmpretrain')).transform(results)
    described = _for_classifier({step['type']: step for step in steps}, (56, 56), COLOR)
    canvas, _ = bare(size=[56, 56], preprocess=described, task='classification').prepare(pixels)
    assert (canvas == results['img'][..., ::-1]).all()


@pytest.mark.parametrize(
    ('steps', 'message'),
    [
        (
            [dict(type='Resize', scale=(56, 56), keep_ratio=True)],
            'with keep_ratio=True: use ResizeEdge',
        ),
        ([dict(type='ResizeEdge', scale=56, interpolation='area'), PIPELINES['defaults'][1]], 'cv2, area'),
        ([dict(type='ResizeEdge', scale=56, edge='long'), PIPELINES['defaults'][1]], "edge='long'"),
        ([dict(type='Resize', scale_factor=0.5), PIPELINES['defaults'][1]], 'Resize with a scale_factor'),
        ([dict(type='Pad', size=(56, 56))], 'leave Pad out of the test pipeline'),
    ],
)
def test_what_a_file_cannot_repeat_is_refused(steps, message):
    with pytest.raises(UserError, match=message):
        _for_classifier({step['type']: step for step in steps}, (56, 56), COLOR)


@pytest.mark.parametrize('size', [(64, 96), None])
def test_a_segmenters_file_stretches_to_multiples(size):
    """As mmseg's ResizeToMultiple after Resize, which every FPN config has."""
    pixels = np.random.default_rng(0).integers(0, 256, (70, 120, 3), np.uint8)
    results = dict(img=pixels, img_shape=(70, 120), img_fields=['img'])
    scale = (96, 64) if size else (160, 100)
    steps = [
        dict(type='Resize', scale=scale, keep_ratio=True),
        dict(type='ResizeToMultiple', size_divisor=32),
    ]
    for step in steps:
        results = TRANSFORMS.build(dict(step, _scope_='mmseg')).transform(results)
    kind = dict(resize='fit') if size else dict(resize='edges', scale=list(scale))
    preprocess = kind | dict(pad_value=[0, 0, 0], multiple=32)
    canvas, inner = bare(size=size, preprocess=preprocess, task='segmentation').prepare(pixels)
    assert inner == results['img'].shape[:2]
    assert (canvas[: inner[0], : inner[1]] == results['img'][..., ::-1]).all()


def test_dense_pipelines_that_a_file_cannot_repeat():
    with pytest.raises(UserError, match='leave ResizeShortestEdge out of the test pipeline'):
        _refuse_others({'Resize': {}, 'ResizeShortestEdge': {}}, _KNOWN_DENSE)
    with pytest.raises(UserError, match='the test pipeline with pillow, bilinear: change it'):
        _check_resize(dict(backend='pillow'), ('cv2',), ('bilinear',))


def test_errors_are_one_line(tmp_path):
    file = tmp_path / 'model.onnx'
    with pytest.raises(UserError, match='no such file'):
        read_info(file)
    file.write_bytes(b'')
    with pytest.raises(UserError, match=r'model\.onnx\.json is missing'):
        read_info(file)
    file.write_bytes(b'x')
    fit = dict(resize='fit', pad_value=[0, 0, 0])
    write_info(file, info(task='backbone', preprocess=fit, outputs=['stage1']))
    with pytest.raises(UserError, match='has maps and no predictions'):
        ExportedModel(file)
