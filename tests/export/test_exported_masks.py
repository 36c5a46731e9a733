"""Masks of whole images and queries, against the toolkit's own functions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.seg_heads import MaskFormerFusionHead
from mmengine.structures import BaseDataElement

from fastervit_backbone.engine.samples import found_in
from fastervit_backbone.export.parity import _count_segments
from fastervit_backbone.inference.exported_masks import Geometry, masks_of_objects, prediction_of_queries
from fastervit_backbone.structures.prediction import decode_mask

GEOMETRY = Geometry(canvas=(64, 96), inner=(64, 81), size=(101, 127))


def smooth(count, height, width, seed=0):
    noise = torch.randn(count, 1, 4, 5, generator=torch.Generator().manual_seed(seed)) * 4
    return F.interpolate(noise, (height, width), mode='bicubic')[:, 0]


def test_masks_of_objects_are_rtmdets():
    logits = smooth(5, 8, 12)
    full = F.interpolate(logits[None], scale_factor=8, mode='bilinear')
    sides = [math.ceil(c / (i / s)) for c, i, s in zip((64, 96), (64, 81), (101, 127), strict=True)]
    full = F.interpolate(full, sides, mode='bilinear')[0, :, :101, :127]
    for threshold in (0.5, 0.3):
        found = masks_of_objects(logits.numpy(), GEOMETRY, threshold)
        for mask, rle in zip(full.sigmoid() > threshold, found, strict=True):
            assert (mask.numpy() != decode_mask(rle)).sum() <= 2


@pytest.mark.parametrize('stuff', [0, 2])
@pytest.mark.parametrize('low', [False, True])
def test_queries_mean_what_mmdet_says(stuff, low):
    things, queries = 3, 12
    logits = torch.randn(queries, things + stuff + 1, generator=torch.Generator().manual_seed(1)) * 2
    masks = smooth(queries, 16, 24)
    limits = dict(object_mask_thr=0.3, iou_thr=0.4, filter_low_score=low)
    cfg = dict(panoptic_on=True, instance_on=True, max_per_image=20, **limits)
    head = MaskFormerFusionHead(things, stuff, test_cfg=_dict(cfg))
    sample = BaseDataElement(metainfo=dict(img_shape=(64, 81), ori_shape=(101, 127)))
    large = F.interpolate(masks[None], (64, 96), mode='bilinear')
    (result,) = head.predict(logits[None], large, [sample], rescale=True)
    sample.pred_instances, sample.pred_panoptic_seg = result['ins_results'], result['pan_results']
    expected = found_in(sample, (101, 127), things + stuff, 0.1)

    how = dict(things=things, max_per_image=20, panoptic=limits)
    arrays = logits.softmax(1).numpy(), masks.numpy()
    found = prediction_of_queries(*arrays, how, GEOMETRY, 0.1, None)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1)
    assert len(found) > 5 and (found.panoptic >= 0).mean() > 0.2
    assert (found.panoptic != expected.panoptic).mean() < 1e-3
    some = prediction_of_queries(*arrays, how, GEOMETRY, 0.1, [1])
    assert set(some.labels) == {1} and set(np.unique(some.panoptic % 1000)) <= {1, 999}


def test_nothing_found():
    probabilities = np.zeros((4, 3), np.float32)
    probabilities[:, 2] = 1
    limits = dict(object_mask_thr=0.3, iou_thr=0.4, filter_low_score=True)
    how = dict(things=2, max_per_image=5, panoptic=limits)
    found = prediction_of_queries(
        probabilities, np.full((4, 16, 24), -5, np.float32), how, GEOMETRY, 0.0, None
    )
    assert (found.panoptic == -1).all() and not len(found.within_image())


def test_segments_are_compared_without_their_numbers():
    expected = np.full((10, 10), 2, np.int32)
    expected[:3], expected[3:6] = 1000, 2001
    other = expected.copy()
    other[:3], other[3:6] = 4000, 1001
    assert _count_segments(expected, other).tolist() == [0 + 0, 100]
    other[3:6] = 2  # a segment is lost in its neighbor of another number
    assert _count_segments(expected, other)[0] >= 30
    other[0] = -1
    assert _count_segments(expected, other)[0] >= 40


def _dict(values):
    from mmengine.config import ConfigDict

    return ConfigDict(values)
