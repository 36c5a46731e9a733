"""Checks of segmentation configs before anything is built: classes, palettes, label 0, a batch of one."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.registry import init_default_scope

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.config.adaptations import fit_to_machine
from fastervit_backbone.engine.config.channels import check_channels
from fastervit_backbone.engine.config.checks import check_batch, check_data
from fastervit_backbone.engine.config.classes import fit_classes, fit_label_loading
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.visualization.palette import distinct_colors
from tests.helpers import ROOT


@pytest.fixture
def ade():
    init_default_scope('mmseg')  # where the names of data sets are looked up
    return Config.fromfile(ROOT / 'configs' / 'upernet_fastervit0_160k.py')


@pytest.fixture
def demo(tmp_path):
    root = make_shapes(tmp_path / 'shapes', train=2, val=1, size=(96, 128))
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'upernet_shapes.py')
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.data_root = str(root)
    return config


def test_good_data(demo):
    assert check_data(demo, ('train', 'val', 'test')) == []
    assert fit_classes(demo, 'train') == [] and fit_label_loading(demo) == []


def test_heads_and_palette_follow_the_classes(demo):
    for split in ('train', 'val', 'test'):
        demo[f'{split}_dataloader'].dataset.metainfo.classes = ['background', 'thing']
    (Path(demo.train_dataloader.dataset.data_root) / 'labels').rename(
        Path(demo.train_dataloader.dataset.data_root) / 'old'
    )
    for split in ('train', 'val'):
        folder = Path(demo.train_dataloader.dataset.data_root) / 'labels' / split
        folder.mkdir(parents=True)
        for path in (folder.parents[1] / 'old' / split).iterdir():
            Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(folder / path.name)
    assert check_data(demo, ('train', 'val')) == []  # the palette of four colors is replaced later
    remedy = r'--cfg-options model\.decode_head\.loss_decode\.class_weight=None'
    with pytest.raises(UserError, match=f'class_weight has 4 numbers, the data set 2 classes: .*{remedy}'):
        fit_classes(demo, 'train')
    demo.model.decode_head.loss_decode.class_weight = None
    assert fit_classes(demo, 'train') == ['num_classes 4 -> 2 in 2 heads, to match the data set']
    assert demo.model.decode_head.num_classes == demo.model.auxiliary_head.num_classes == 2
    assert (
        demo.train_dataloader.dataset.metainfo.palette
        == demo.val_dataloader.dataset.metainfo.palette
        == distinct_colors(2)
    )


def test_colors_are_distinct():
    colors = np.array(distinct_colors(24))
    assert colors.min() >= 0 and colors.max() <= 255
    distances = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(24)
    assert distances.min() >= 40 and distances[np.arange(7), np.arange(1, 8)].min() >= 150
    assert len({tuple(c) for c in distinct_colors(150)}) == 150


def test_a_subset_of_ade20ks_classes(ade):
    """mmseg ignores the other classes and selects these colors of the palette."""
    for split in ('train', 'val', 'test'):
        ade[f'{split}_dataloader'].dataset.metainfo = dict(classes=['sky', 'wall'])
    assert fit_classes(ade, 'train') == ['num_classes 150 -> 2 in 2 heads, to match the data set']
    assert 'palette' not in ade.train_dataloader.dataset.metainfo


def test_label_0_is_loaded_like_the_data_set(ade):
    assert fit_label_loading(ade) == []
    ade.train_dataloader.dataset.reduce_zero_label = False
    assert fit_label_loading(ade) == ['train pipeline: reduce_zero_label -> False, to match the data set']
    load = next(t for t in ade.train_dataloader.dataset.pipeline if t.type == 'LoadAnnotations')
    assert load.reduce_zero_label is False


def test_data_sets_without_classes_images_or_a_good_ignore_index(demo):
    dataset = demo.train_dataloader.dataset
    dataset.ignore_index = 0
    with pytest.raises(
        UserError, match=r'LabelMapDataset at .*: ignore_index must be an integer in 1\.\.255, got 0'
    ):
        check_data(demo, ('train',))
    dataset.ignore_index = 'none'
    with pytest.raises(UserError, match=r"ignore_index must be an integer in 1\.\.255, got 'none'"):
        check_data(demo, ('train',))
    dataset.pop('ignore_index')
    dataset.img_suffix = '.tif'
    with pytest.raises(
        UserError,
        match=r"has no image that ends in '\.tif': set img_suffix, or make it: fastervit make-shapes",
    ):
        check_data(demo, ('train',))
    dataset.data_prefix = dict(img_path='images/train', seg_map='labels/train')
    with pytest.raises(
        UserError, match=r"data_prefix must name the two folders img_path and seg_map_path, got .*'seg_map'"
    ):
        check_data(demo, ('train',))
    dataset.data_prefix = dict(img_path='images/train', seg_map_path='labels/train')
    dataset.data_prefix.seg_map_path = 'nowhere'
    with pytest.raises(UserError, match=r'no folder at .*nowhere'):
        check_data(demo, ('train',))
    dataset.metainfo = dict(classes=11)
    with pytest.raises(UserError, match=r'metainfo\.classes=11 is not a list of names'):
        check_data(demo, ('train',))
    dataset.metainfo = dict(classes=None)
    with pytest.raises(UserError, match=r'has no metainfo\.classes: name the labels'):
        check_data(demo, ('train',))


def test_mmsegs_own_errors_are_one_line(demo):
    demo.train_dataloader.dataset.update(type='BaseSegDataset', ann_file='absent.txt')
    with pytest.raises(UserError, match=r'BaseSegDataset at .*absent\.txt'):
        check_data(demo, ('train',))
    demo.train_dataloader.dataset = dict(
        type='PascalVOCDataset',
        data_root='nowhere',
        ann_file='a.txt',
        data_prefix=dict(img_path='a', seg_map_path='b'),
    )
    with pytest.raises(UserError, match=r"PascalVOCDataset at 'nowhere'"):
        check_data(demo, ('train',))


def test_one_image_and_batch_norm(demo):
    fit_to_machine(demo, 'none')
    check_batch(demo)
    demo.train_dataloader.batch_size = 1
    with pytest.raises(UserError, match=re.escape('UPerHead pools to a single pixel')):
        check_batch(demo)
    for norm in (dict(type='GN', num_groups=8), None):
        demo.model.decode_head.norm_cfg = norm
        check_batch(demo)
    demo.model.decode_head = [demo.model.decode_head]
    check_batch(demo)


def test_channels_of_both_heads(ade):
    check_channels(ade)
    ade.model.auxiliary_head.in_channels = 128
    with pytest.raises(
        UserError, match=r'model\.auxiliary_head\.in_channels is 128, but .*gives 256: --cfg-options'
    ):
        check_channels(ade)
    ade.model.decode_head.in_channels = [1, 2, 3, 4]
    with pytest.raises(
        UserError, match=r'model\.decode_head\.in_channels is \[1, 2, 3, 4\], but .*"\[64,128,256,512\]"'
    ):
        check_channels(ade)


def test_channels_of_a_timm_baseline():
    pytest.importorskip('timm')
    config = Config.fromfile(ROOT / 'configs' / 'baselines' / 'fpn_poolformer-s36_40k.py')
    check_channels(config)
    config.model.backbone.model_name = 'poolformer_m36'
    with pytest.raises(UserError, match=r"TimmBackbone 'poolformer_m36' gives \[96, 192, 384, 768\]"):
        check_channels(config)


def test_necks_without_channels_and_chains_of_necks(ade):
    cascade = Config.fromfile(ROOT / 'configs' / 'cascade_fastervit0_3x.py')
    cascade.model.neck = [cascade.model.neck, dict(type='DyHead', in_channels=256, out_channels=256)]
    check_channels(cascade)
    ade.model.neck = dict(type='Feature2Pyramid', embed_dim=64)
    check_channels(ade)
    ade.model.neck = None
    ade.model.decode_head = dict(type='FCNHead', in_channels=512)  # mmseg reads the last map by default
    check_channels(ade)
