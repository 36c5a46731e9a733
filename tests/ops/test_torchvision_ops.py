"""Operators on torchvision: values and gradients as compiled mmcv has them, stored or present here."""

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch

pytest.importorskip('torchvision')

from fastervit_backbone.ops import stand_in, torchvision_ops
from fastervit_backbone.utils.errors import UserError
from tests.helpers import REFERENCE, ROOT
from tests.reference.store_mmcv_ops import CASES, make_inputs, run_case


@pytest.fixture(scope='module')
def stored():
    """What compiled mmcv 2.3.6 returned, written by tests/reference/store_mmcv_ops.py."""
    return np.load(REFERENCE / 'mmcv_ops.npz')


@pytest.mark.parametrize('name', CASES)
def test_stored_results_of_compiled_mmcv(name, stored):
    results = run_case(torchvision_ops, name)
    assert results, name
    for key, value in results.items():
        expected = torch.from_numpy(stored[f'{name}/{key}'])
        assert value.shape == expected.shape
        assert (value.double() - expected.double()).abs().max() <= 1e-5 * max(1.0, expected.abs().max()), key


needs_compiled = pytest.mark.skipif(
    not stand_in.has_compiled_operators(), reason='mmcv has no compiled operators here'
)


@needs_compiled
@pytest.mark.parametrize('name', CASES)
def test_compiled_mmcv_here(name):
    compiled, ours = run_case(import_module('mmcv._ext'), name), run_case(torchvision_ops, name)
    for key, value in ours.items():
        assert torch.allclose(value.double(), compiled[key].double(), rtol=1e-5, atol=1e-5), key


@needs_compiled
def test_nms_keeps_the_same_boxes_on_a_thousand_sets():
    extension = import_module('mmcv._ext')
    generator = torch.Generator().manual_seed(0)
    for i in range(1000):
        count = int(torch.randint(1, 120, (1,), generator=generator))
        corners = torch.rand(count, 2, generator=generator) * 100
        sizes = torch.rand(count, 2, generator=generator) * 40
        boxes, scores = torch.cat((corners, corners + sizes), 1), torch.rand(count, generator=generator)
        if i % 3 == 0:
            scores = (scores * 10).round() / 10  # many are equal
        options = dict(iou_threshold=float(torch.rand(1, generator=generator)), offset=i % 2)
        kept = [m.nms(boxes, scores, **options).tolist() for m in (extension, torchvision_ops)]
        assert kept[0] == kept[1]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(dtype):
    """Compiled mmcv takes no bfloat16 at all, and no float16 on a CPU."""
    maps, rois, options = make_inputs('roi_align')
    exact, low = torch.zeros(len(rois), 8, 7, 5), torch.zeros(len(rois), 8, 7, 5, dtype=dtype)
    empty = torch.zeros(0)
    maps, rois = maps.to(dtype), rois.to(dtype)
    torchvision_ops.roi_align_forward(maps.float(), rois.float(), exact, empty, empty, **options)
    torchvision_ops.roi_align_forward(maps, rois, low, empty, empty, **options)
    assert torch.equal(low, exact.to(dtype))
    boxes = rois[:, 1:].to(dtype)
    kept = torchvision_ops.nms(boxes, torch.rand(len(boxes)).to(dtype), 0.5, 0)
    assert kept.dtype == torch.long and 0 < len(kept) <= len(boxes)


def test_roi_pool_is_the_maximum_of_each_cell():
    """Compiled mmcv has no RoIPool for a CPU to compare with: whole cells of 2x2 pixels, by hand."""
    maps = torch.randn(1, 3, 8, 8)
    rois = torch.tensor([[0.0, 0.0, 0.0, 7.0, 7.0]])  # the last pixel is included
    output, argmax = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.int)
    options = dict(pooled_height=4, pooled_width=4, spatial_scale=1.0)
    torchvision_ops.roi_pool_forward(maps, rois, output, argmax, **options)
    assert torch.equal(output, torch.nn.functional.max_pool2d(maps, 2))
    grad = torch.zeros_like(maps)
    torchvision_ops.roi_pool_backward(torch.ones_like(output), rois, argmax, grad, **options)
    assert grad.sum() == output.numel() and torch.equal(maps[grad > 0].sort()[0], output.flatten().sort()[0])


@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss(weighted):
    """Against mmdet's own torch code, and its gradient."""
    py_sigmoid_focal_loss = pytest.importorskip('mmdet.models.losses.focal_loss').py_sigmoid_focal_loss
    logits, target = torch.randn(40, 5, requires_grad=True), torch.randint(0, 6, (40,))  # 5: background
    weight = torch.rand(5) if weighted else torch.zeros(0)
    one_hot = torch.nn.functional.one_hot(target, 6)[:, :5]
    expected = py_sigmoid_focal_loss(logits, one_hot, gamma=2.0, alpha=0.25, reduction='none')
    if weighted:
        expected = expected * torch.cat((weight, torch.zeros(1)))[target][:, None]
    output, grad = torch.zeros(40, 5), torch.zeros(40, 5)
    torchvision_ops.sigmoid_focal_loss_forward(logits.detach(), target, weight, output, 2.0, 0.25)
    torchvision_ops.sigmoid_focal_loss_backward(logits.detach(), target, weight, grad, 2.0, 0.25)
    assert torch.allclose(output, expected, atol=1e-6)
    assert torch.allclose(grad, torch.autograd.grad(expected.sum(), logits)[0], atol=1e-6)


def test_deformable_attention_and_its_gradients():
    """mmcv's torch code through the names of the extension, as a GPU would call it."""
    attention = pytest.importorskip('mmcv.ops.multi_scale_deform_attn')
    shapes, starts = torch.tensor([[6, 5], [3, 2]]), torch.tensor([0, 30])
    value, locations = torch.randn(2, 36, 2, 4), torch.rand(2, 7, 2, 2, 3, 2)
    weights = torch.rand(2, 7, 2, 2, 3)
    leaves = [t.clone().requires_grad_() for t in (value, locations, weights)]
    expected = attention.multi_scale_deformable_attn_pytorch(leaves[0], shapes, leaves[1], leaves[2])
    output = torchvision_ops.ms_deform_attn_forward(value, shapes, starts, locations, weights, im2col_step=64)
    assert torch.equal(output, expected)
    grad_output = torch.randn_like(output)
    grads = [torch.zeros_like(t) for t in leaves]
    torchvision_ops.ms_deform_attn_backward(
        value, shapes, starts, locations, weights, grad_output, *grads, im2col_step=64
    )
    for ours, theirs in zip(grads, torch.autograd.grad(expected, leaves, grad_output), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_channels_last_maps_are_read_as_what_they_are():
    """mmcv's compiled RoIAlign reads their memory as if it were contiguous."""
    maps, rois, options = make_inputs('roi_align')
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        output, empty = torch.zeros(len(rois), 8, 7, 5), torch.zeros(0)
        x = maps.to(memory_format=memory_format)
        torchvision_ops.roi_align_forward(x, rois, output, empty, empty, **options)
        results.append(output)
    assert torch.equal(*results)


def test_no_boxes_at_all():
    maps, _, options = make_inputs('roi_align')
    output, empty = torch.zeros(0, 8, 7, 5), torch.zeros(0)
    torchvision_ops.roi_align_forward(maps, torch.zeros(0, 5), output, empty, empty, **options)
    assert torchvision_ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5, 0).shape == (0,)
    options = dict(iou_threshold=0.5, sigma=0.5, min_score=0.1, method=1, offset=0)
    assert torchvision_ops.softnms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 5), **options).shape == (
        0,
    )


def test_what_torchvision_lacks_is_one_line():
    module = stand_in.OperatorStandIn()
    with pytest.raises(UserError, match=r'the operator carafe_forward of mmcv .*make setup OPS=compiled$'):
        module.carafe_forward(1, x=2)
    maps, rois, options = make_inputs('roi_align')
    with pytest.raises(UserError, match=r"pool_mode='max' .*OPS=compiled$"):
        module.roi_align_forward(maps, rois, maps, maps, maps, **(options | dict(pool_mode=0)))
    assert module.nms is torchvision_ops.nms and not hasattr(module, '__path__')
    assert module.get_compiler_version() == 'operators: torchvision'


@needs_compiled
def test_never_in_place_of_compiled_operators():
    stand_in.install()
    assert not stand_in.is_active()


def test_mmcv_and_mmdet_import_on_it():
    """In a process where mmcv's own extension cannot be found."""
    pytest.importorskip('mmdet')
    code = """
import sys
from fastervit_backbone.ops import stand_in
stand_in.has_compiled_operators = lambda: False
sys.modules.pop('mmcv._ext', None)
stand_in.install()
assert stand_in.is_active()
import torch, mmcv.ops, mmdet.models
from mmcv.ops import RoIAlign, batched_nms, soft_nms
boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 4.1], [9., 9., 12., 12.]])
scores = torch.tensor([.9, .8, .7])
dets, keep = batched_nms(boxes, scores, torch.zeros(3, dtype=torch.long), dict(type='nms', iou_threshold=.5))
assert keep.tolist() == [0, 2]
dets, keep = soft_nms(boxes, scores, method='gaussian')
assert keep.tolist() == [0, 2, 1] and dets[2, 4] < .8
maps = torch.arange(64.).reshape(1, 1, 8, 8).requires_grad_()
out = RoIAlign(2, aligned=True)(maps, torch.tensor([[0., 0., 0., 8., 8.]]))
out.sum().backward()
assert out.shape == (1, 1, 2, 2) and maps.grad.sum() == 4
try:
    mmcv.ops.three_nn(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
except ValueError as error:
    assert 'three_nn_forward' in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
