import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg')

import torch
from mmengine.registry import init_default_scope

from fastervit_backbone.engine.label_map_dataset import LabelMapDataset

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / 'images' / 'a.png')
    Image.fromarray(np.tile(np.array([0, 1, 2, 7, 255, 3, 0, 1], np.uint8), (32, 8))).save(
        tmp_path / 'labels' / 'a.png'
    )
    return tmp_path


def labels(root, **options):
    prefix = dict(img_path='images', seg_map_path='labels')
    dataset = LabelMapDataset(
        metainfo=dict(classes='abcd'), data_root=str(root), data_prefix=prefix, pipeline=LOAD, **options
    )
    return dataset[0]['gt_seg_map'][0, :8].tolist()


def test_ignored_labels(root):
    assert labels(root) == [0, 1, 2, 7, 255, 3, 0, 1]
    assert labels(root, ignore_index=7) == [0, 1, 2, 255, 255, 3, 0, 1]
    assert labels(root, reduce_zero_label=True) == [255, 0, 1, 6, 255, 2, 255, 0]
    assert labels(root, reduce_zero_label=True, ignore_index=7) == [255, 0, 1, 255, 255, 2, 255, 0]


@pytest.mark.parametrize('value', [0, -1, 256])
def test_ignore_index_out_of_range(root, value):
    with pytest.raises(ValueError, match=rf'ignore_index must be an integer in 1\.\.255, got {value}'):
        labels(root, ignore_index=value)


def test_unknown_argument(root):
    with pytest.raises(TypeError):
        labels(root, ignore_label=3)


@pytest.mark.realdata
def test_camvids_void_class_counts_in_no_loss_and_no_metric(real_data):
    from mmseg.evaluation import IoUMetric
    from mmseg.models.losses import CrossEntropyLoss

    prefix = dict(img_path='images/validation', seg_map_path='annotations/validation')
    classes = [str(i) for i in range(11)]
    dataset = LabelMapDataset(
        metainfo=dict(classes=classes),
        data_root=str(real_data / 'camvid_mini'),
        data_prefix=prefix,
        pipeline=LOAD,
        ignore_index=11,
    )
    item = dataset[0]
    raw = np.asarray(Image.open(item['seg_map_path']))
    assert (raw == 11).any() and ((item['gt_seg_map'] == 255) == (raw == 11)).all()
    assert (item['gt_seg_map'][raw != 11] == raw[raw != 11]).all()
    gt = torch.from_numpy(item['gt_seg_map']).long()
    *_, predicted, labelled = IoUMetric.intersect_and_union(torch.zeros_like(gt), gt, 11, 255)
    assert predicted.sum() == labelled.sum() == (raw != 11).sum()
    logits = torch.randn(1, 11, *gt.shape, requires_grad=True)
    CrossEntropyLoss()(logits, gt[None], ignore_index=255).backward()
    assert ((logits.grad[0].abs().sum(0) == 0).numpy() == (raw == 11)).all()
