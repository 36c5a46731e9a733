"""Under bfloat16 autocast, operators and coordinates are float32, also in the paper's configs."""

from importlib import import_module

import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.testing import demo_mm_inputs

from fastervit_backbone.ops.float32 import run_in_float32, widen
from tests.helpers import ROOT
from tests.mm_helpers import build, check_detector, load, narrow, with_nano

BF16 = torch.bfloat16
#: mmcv.ops has functions of the modules' names.
focal_loss, multi_scale_deform_attn, nms, roi_align = (
    import_module(f'mmcv.ops.{name}')
    for name in ('focal_loss', 'multi_scale_deform_attn', 'nms', 'roi_align')
)


class Watched:
    """mmcv's compiled module: rejects bfloat16 like the CUDA kernels, records calls; ``fake``: no calls."""

    def __init__(self, module, fake=False):
        self.module, self.fake, self.calls = module, fake, []

    def __getattr__(self, name):
        def call(*arguments, **options):
            tensors = [a for a in (*arguments, *options.values()) if isinstance(a, torch.Tensor)]
            dtypes = {a.dtype for a in tensors if a.is_floating_point()}
            assert dtypes == {torch.float32}, (name, dtypes)
            self.calls.append(name)
            if not self.fake:
                return getattr(self.module, name)(*arguments, **options)
            return torch.ones(arguments[0].shape[0], 2, 8) if name == 'ms_deform_attn_forward' else None

        return call


@pytest.fixture
def watch(monkeypatch):
    run_in_float32()
    run_in_float32()  # a second model

    def replace(module, fake=False):
        watched = Watched(module.ext_module, fake)
        monkeypatch.setattr(module, 'ext_module', watched)
        return watched

    return replace


def test_widen():
    mixed = (torch.ones(2, dtype=BF16), torch.ones(2), torch.ones(2, dtype=torch.long), 'avg', None)
    expected = [torch.float32, torch.float32, torch.long, 'avg', None]
    assert [getattr(v, 'dtype', v) for v in widen(mixed)] == expected
    half = (torch.ones(2, dtype=torch.float16), torch.ones(2))
    assert all(a is b for a, b in zip(widen(half), half, strict=True))  # mmdet handles float16 itself


def test_roi_align(watch):
    calls = watch(roi_align).calls
    maps = torch.randn(1, 3, 20, 30, dtype=BF16, requires_grad=True)
    rois = torch.tensor([[0, 3.3, 4.1, 17.7, 12.9]])
    out = roi_align.roi_align(maps, rois, (7, 7), 1.0, 2, 'avg', True)
    expected = roi_align.roi_align(maps.detach().float(), rois, (7, 7), 1.0, 2, 'avg', True)
    torch.testing.assert_close(out, expected)
    out.square().mean().backward()
    assert maps.grad.dtype == BF16 and maps.grad.isfinite().all() and maps.grad.any()
    assert calls == ['roi_align_forward', 'roi_align_forward', 'roi_align_backward']


def test_regions_are_not_rounded(watch):
    """In bfloat16 a region at 1001.5 would be read at 1000."""
    watch(roi_align)
    layer = dict(type='RoIAlign', output_size=3, sampling_ratio=2)
    extractor = SingleRoIExtractor(layer, out_channels=2, featmap_strides=[16])
    maps = torch.randn(1, 2, 80, 80).to(BF16)
    rois = torch.tensor([[0, 1001.5, 601.25, 1130.5, 777.75]])
    torch.testing.assert_close(extractor((maps,), rois), extractor((maps.float(),), rois))


def test_nms(watch):
    calls = watch(nms).calls
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]).to(BF16)
    kept = nms.nms(boxes, torch.tensor([0.5, 0.9, 0.7]).to(BF16), 0.5)[1]
    assert kept.tolist() == [1, 2] and calls == ['nms']


def test_deformable_attention(watch):
    """The kernels exist only for CUDA: here the dtypes that they would get."""
    calls = watch(multi_scale_deform_attn, fake=True).calls
    value = torch.randn(1, 12, 2, 4, dtype=BF16, requires_grad=True)
    locations = torch.rand(1, 2, 2, 1, 4, 2, requires_grad=True)
    weights = torch.rand(1, 2, 2, 1, 4, dtype=BF16, requires_grad=True)
    out = multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(
        value, torch.tensor([[3, 4]]), torch.tensor([0]), locations, weights, 64
    )
    out.to(BF16).sum().backward()
    assert (value.grad.dtype, locations.grad.dtype, weights.grad.dtype) == (BF16, torch.float32, BF16)
    assert calls == ['ms_deform_attn_forward', 'ms_deform_attn_backward']


def test_focal_loss(watch):
    calls = watch(focal_loss, fake=True).calls
    scores = torch.randn(5, 3, dtype=BF16, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, 0])
    focal_loss.sigmoid_focal_loss(scores, targets, 2.0, 0.25, None, 'none').sum().backward()
    assert scores.grad.dtype == BF16
    assert calls == ['sigmoid_focal_loss_forward', 'sigmoid_focal_loss_backward']


@pytest.mark.short('mask-rcnn', 'retinanet')
@pytest.mark.parametrize(
    'name',
    [
        'cascade_fastervit4_3x',
        'mask-rcnn_fastervit2_1x',
        'faster-rcnn_fastervit0_voc0712',
        'retinanet_fastervit0_1x',
        'dino_fastervit0_12e',
    ],
)
def test_the_papers_configs_under_autocast(name, watch):
    """Loss, gradients (also without objects) and prediction, as --amp and fastervit benchmark run them."""
    watched = [watch(module) for module in (roi_align, nms)]
    config = narrow(with_nano(load(ROOT / 'configs' / f'{name}.py')))
    model = build(config)
    seen = []
    model.neck.register_forward_hook(lambda module, inputs, maps: seen.append({m.dtype for m in maps}))
    with torch.autocast('cpu', BF16):
        check_detector(model, 'mask_head' in config.model.get('roi_head', {}))
        batch = demo_mm_inputs(1, [[3, 96, 128]], num_items=[1], num_classes=2)
        with torch.no_grad():
            (result,) = model(**model.data_preprocessor(batch, False), mode='predict')
    boxes = result.pred_instances.bboxes
    assert boxes.dtype == torch.float32
    assert not torch.equal(boxes, boxes.to(BF16).float())  # computed in float32, not only converted to it
    assert {BF16} in seen  # an FPN without norm returns autocast's dtype
    called = {call for module in watched for call in module.calls}
    if 'rcnn' in name or 'cascade' in name:
        assert called >= {'roi_align_forward', 'roi_align_backward', 'nms'}
