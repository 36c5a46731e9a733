"""Steps of detectors with fixed shapes against mmcv, mmdet and formulas by loops."""

import pytest
import torch

pytest.importorskip('mmdet')

from mmcv.ops import MultiScaleDeformableAttention, batched_nms
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder

from fastervit_backbone.export.any_size import IntegerUpsample, MatrixPool
from fastervit_backbone.export.detector_ops import (
    GatheredAttention,
    Pyramid,
    best,
    best_classes,
    decode_boxes,
    filled,
    pad_to_multiple,
    rows_in_use,
    suppress,
)
from fastervit_backbone.utils.errors import UserError


def random_boxes(n, size=(90, 130)):
    corners = torch.rand(n, 2, 2) * torch.tensor([size[1], size[0]])
    return torch.cat((corners.amin(1), corners.amax(1)), 1)


def test_decoded_boxes_are_mmdets():
    coder = DeltaXYWHBBoxCoder(target_means=(0.1, 0, 0, -0.2), target_stds=(0.1, 0.1, 0.2, 0.2))
    boxes, deltas = random_boxes(50), torch.randn(50, 4) * 20
    expected = coder.decode(boxes, deltas, max_shape=(80, 120))
    torch.testing.assert_close(decode_boxes(coder, boxes, deltas, (80, 120)), expected)


def test_another_coder_is_refused():
    coder = DeltaXYWHBBoxCoder(clip_border=False)
    with pytest.raises(UserError, match='DeltaXYWHBBoxCoder'):
        decode_boxes(coder, random_boxes(1), torch.zeros(1, 4), (8, 8))


@pytest.mark.parametrize('valid_part', [1.0, 0.4, 0.0])
def test_suppression_is_mmcvs_with_padding(valid_part):
    boxes, scores, groups = random_boxes(200), torch.rand(200) + 0.01, torch.randint(3, (200,))
    valid = torch.rand(200) < valid_part
    index, is_one = suppress(boxes, scores, groups, valid, 0.5, 120)
    assert index.shape == is_one.shape == (120,)
    where = valid.nonzero()[:, 0]
    expected = where  # of nothing, mmcv's fails
    if len(where):
        nms = dict(type='nms', iou_threshold=0.5)
        expected = where[batched_nms(boxes[where], scores[where], groups[where], nms)[1]][:120]
    assert index[is_one].tolist() == expected.tolist()
    assert is_one.sum() == len(expected) and is_one.tolist() == sorted(is_one.tolist(), reverse=True)


def test_suppression_of_fewer_boxes_than_asked_for():
    index, is_one = suppress(
        random_boxes(2), torch.rand(2), torch.arange(2), torch.ones(2, dtype=torch.bool), 0.5, 10
    )
    assert is_one.sum() == 2 and index.max() < 2


@pytest.mark.parametrize('size', [(512, 640), (403, 97), (33, 64)])
@pytest.mark.parametrize('options', [dict(sampling_ratio=0), dict(sampling_ratio=2)])
def test_regions_are_pooled_on_the_level_of_their_size(size, options):
    """Also of boxes along all edges, and of nothing."""
    extractor = SingleRoIExtractor(
        roi_layer=dict(type='RoIAlign', output_size=7, **options),
        out_channels=5,
        featmap_strides=[4, 8, 16, 32],
    )
    maps = [torch.randn(1, 5, -(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32)]
    height, width = size
    edges = torch.tensor([[0, 0, width, height], [0, 0, 5, 9], [width - 7, height - 3, width, height]])
    boxes = torch.cat(
        (random_boxes(20, (30, 30)), random_boxes(60, size), torch.zeros(1, 4), edges, edges / 2)
    )
    rois = torch.cat((torch.zeros(len(boxes), 1), boxes), 1)
    pyramid = Pyramid(maps)
    torch.testing.assert_close(pyramid.pool(extractor, boxes), extractor(maps, rois), atol=1e-4, rtol=1e-4)
    if max(size) > 500:
        assert len(extractor.map_roi_levels(rois, 4).unique()) == 4


def test_one_level():
    extractor = SingleRoIExtractor(
        roi_layer=dict(type='RoIAlign', output_size=(3, 5)), out_channels=2, featmap_strides=[16]
    )
    x, boxes = torch.randn(1, 2, 9, 12), random_boxes(30, (140, 190))
    expected = extractor([x], torch.cat((torch.zeros(30, 1), boxes), 1))
    torch.testing.assert_close(Pyramid([x]).pool(extractor, boxes), expected, atol=1e-5, rtol=1e-4)


def test_rows_in_use():
    flags = torch.zeros(20, dtype=torch.bool)
    assert rows_in_use(flags, 8).tolist() == list(range(8))
    flags[8] = True
    assert rows_in_use(flags, 8).tolist() == list(range(16))
    assert rows_in_use(torch.ones(20, dtype=torch.bool), 8).tolist() == list(range(20))
    assert filled(torch.ones(3, 2), 5).tolist() == [[1, 1]] * 3 + [[0, 0]] * 2


def test_best_classes():
    scores = torch.rand(30, 4)
    box, label, value, above = best_classes(scores, 0.6)
    assert torch.equal(value, scores[box, label])
    assert value.tolist() == sorted(value.tolist(), reverse=True)
    assert above.sum() == (scores > 0.6).sum()


@pytest.mark.parametrize('dims', [2, 4])
def test_gathered_attention_is_mmcvs(dims):
    attention = MultiScaleDeformableAttention(32, num_heads=4, num_levels=3, num_points=2, batch_first=True)
    with torch.no_grad():
        for p in attention.parameters():
            p.normal_(0, 0.5)  # samples far apart, also outside
    attention.eval()
    shapes = [(7, 9), (4, 5), (2, 3)]
    n = sum(h * w for h, w in shapes)
    query, value, position = torch.randn(2, 11, 32), torch.randn(2, n, 32), torch.randn(2, 11, 32)
    reference = torch.rand(2, 11, 3, dims)
    starts = torch.tensor([0, 63, 83])
    arguments = dict(value=value, query_pos=position, reference_points=reference)
    with torch.no_grad():
        expected = attention(
            query, spatial_shapes=torch.tensor(shapes), level_start_index=starts, **arguments
        )
        found = GatheredAttention(attention)(query, spatial_shapes=shapes, **arguments)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_pooling_and_upsampling_of_any_size():
    from mmseg.models.utils import Upsample

    for size in ((7, 11), (6, 6), (3, 20)):
        x = torch.randn(2, 3, *size)
        for cells in (1, 2, 3, 6):
            torch.testing.assert_close(
                MatrixPool(cells)(x), torch.nn.functional.adaptive_avg_pool2d(x, cells), atol=1e-6, rtol=1e-5
            )
        upsample = Upsample(scale_factor=2, mode='bilinear', align_corners=False)
        torch.testing.assert_close(IntegerUpsample(upsample)(x), upsample(x))
    with pytest.raises(UserError, match=r'upsampling by 1\.5'):
        IntegerUpsample(Upsample(scale_factor=1.5))


class OfAnySize(torch.nn.Module):
    """The steps whose sizes are symbols in a file for any size."""

    def __init__(self):
        super().__init__()
        layer = dict(type='RoIAlign', output_size=5, sampling_ratio=0)
        self.extractor = SingleRoIExtractor(layer, out_channels=1, featmap_strides=[4, 8])

    def forward(self, x):
        x = pad_to_multiple(x, 32)
        maps = x[..., ::4, ::4], x[..., ::8, ::8]
        scores = maps[1][0, 0].flatten()
        scores, index, is_one = best(scores + torch.arange(scores.shape[0]) / 1e6, 50)  # no two are equal
        boxes = torch.stack((index, index, index + 9, index + 30), 1) * 1.0
        return scores, index, is_one, Pyramid(maps).pool(self.extractor, boxes)


@pytest.mark.parametrize('size', [(40, 50), (97, 33), (200, 64)])
def test_steps_of_any_size(size):
    model, example = OfAnySize(), torch.rand(1, 1, 353, 481)
    automatic = torch.export.Dim.AUTO
    shapes = ({2: automatic, 3: automatic},)
    program = torch.export.export(
        model, (example,), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
    )
    x = torch.rand(1, 1, *size)
    scores, index, is_one, pooled = program.module()(x)
    fixed = model(x)
    count = int(is_one.sum())
    assert count == len(fixed[0]) and not is_one[count:].any() and not index[count:].any()
    assert scores[:count].tolist() == fixed[0].tolist() and index[:count].tolist() == fixed[1].tolist()
    torch.testing.assert_close(pooled[:count], fixed[3])
