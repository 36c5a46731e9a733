"""Evaluation with options that do not go together at first sight."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.engine.config.classes import fit_heads
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.label_map_dataset import LabelMapDataset
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.inference.load_model import _categories
from fastervit_backbone.train import train
from fastervit_backbone.utils.errors import UserError
from tests.helpers import FPN, IN_PROCESS, ROOT

EMA = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.3, update_buffers=True)]


def test_deploy_mode_of_averaged_weights(tmp_path, monkeypatch):
    root = make_shapes(tmp_path / 'shapes', train=4, val=2, size=(64, 96))
    monkeypatch.setenv('SHAPES_ROOT', str(root))
    averaged = IN_PROCESS | {'custom_hooks': EMA}
    steps = {'train_cfg.max_iters': 3, 'train_cfg.val_interval': 9, 'default_hooks.checkpoint.interval': 3}
    train(FPN, work_dir=tmp_path / 'run', seed=0, options=averaged | steps)
    content = torch.load(tmp_path / 'run' / 'iter_3.pth', weights_only=False)
    key = 'backbone.stem.conv1.weight'
    assert not torch.equal(content['state_dict'][key], content['ema_state_dict'][f'module.{key}'])
    plain = evaluate(FPN, tmp_path / 'run', work_dir=tmp_path / 'plain', options=averaged)
    deployed = evaluate(FPN, tmp_path / 'run', work_dir=tmp_path / 'deployed', deploy=True, options=averaged)
    assert deployed == pytest.approx(plain, abs=0.1) and plain['aAcc'] > 0


def test_rtmdet_has_no_test_time_augmentation(tmp_path, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(make_shapes(tmp_path / 'shapes', train=1, val=1, size=(64, 96))))
    monkeypatch.setenv('COCO_ROOT', str(tmp_path))
    config = load_config(ROOT / 'configs' / 'rtmdet-ins_fastervit0_300e.py')
    assert config.tta_model is None and config.tta_pipeline is None
    path = tmp_path / 'own.py'
    demo = ROOT / 'configs' / 'demo' / 'rtmdet-ins_shapes.py'
    path.write_text(f'_base_ = {str(demo)!r}\ntta_model = tta_pipeline = None\n')
    with pytest.raises(UserError, match=r'--tta: .*has no tta_model and no tta_pipeline'):
        evaluate(path, tmp_path / 'absent.pth', work_dir=tmp_path / 'w', tta=True, options=IN_PROCESS)


def test_heads_of_panoptic_models_keep_their_weights(tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(
        "_base_ = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py'\n"
        "custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)\n"
    )
    config = load_config(own)
    fit_heads(config, 133)  # 80 things and 53 stuff
    assert len(config.model.panoptic_head.loss_cls.class_weight) == 134


def test_a_binary_segmenter_is_averaged_as_it_is_tested(tmp_path, monkeypatch):
    """One output channel: one view without a flip gives the figures of the plain test."""
    root = make_shapes(tmp_path / 'shapes', train=4, val=2, size=(64, 96))
    for path in (root / 'labels').rglob('*.png'):
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    monkeypatch.setenv('SHAPES_ROOT', str(root))
    own = tmp_path / 'own.py'
    own.write_text(f"""
_base_ = {str(FPN)!r}
loss = dict(type='CrossEntropyLoss', use_sigmoid=True, _delete_=True)
model = dict(decode_head=dict(num_classes=2, out_channels=1, threshold=0.3, loss_decode=loss))
meta = dict(classes=('background', 'shape'), palette=[(0, 0, 0), (255, 0, 0)])
train_dataloader = dict(dataset=dict(metainfo=meta))
val_dataloader = dict(dataset=dict(metainfo=meta))
test_dataloader = dict(dataset=dict(metainfo=meta))
views = [[dict(type='Resize', scale_factor=1.0, keep_ratio=True)], [dict(type='LoadAnnotations')]]
views.append([dict(type='PackSegInputs')])
tta_model = dict(type='SegTTAModel')
tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=views)]
""")
    steps = {'train_cfg.max_iters': 6, 'train_cfg.val_interval': 9, 'default_hooks.checkpoint.interval': 6}
    train(own, work_dir=tmp_path / 'run', seed=0, options=IN_PROCESS | steps)
    plain, averaged = (
        evaluate(own, tmp_path / 'run', work_dir=tmp_path / str(tta), tta=tta, options=IN_PROCESS)
        for tta in (False, True)
    )
    assert averaged == pytest.approx(plain, abs=1e-6) and 0 < plain['mIoU'] < 100


def test_values_of_some_of_a_data_sets_classes(tmp_path):
    """mmseg's own ADE20K with three of its classes: label maps hold the values of the data set."""
    config = load_config(ROOT / 'configs' / 'upernet_fastervit0_160k.py')
    init_default_scope(config.default_scope)
    dataset = config.test_dataloader.dataset
    dataset.metainfo = dict(classes=('wall', 'sky', 'floor'))
    assert _categories(config, {}).ids == (1, 3, 4)  # 0 is ignored in ADE20K
    dataset.metainfo = dict(classes=('wall', 'my own'))
    assert _categories(config, {}).ids == (1, 2)


def test_a_class_is_not_ignored(tmp_path):
    options = dict(metainfo=dict(classes=('sky', 'road')), data_prefix=dict(img_path='a', seg_map_path='b'))
    with pytest.raises(ValueError, match="ignore_index=1 is the class 'road': it would never be learned"):
        LabelMapDataset(**options, ignore_index=1, lazy_init=True)
    assert LabelMapDataset(**options, ignore_index=2, lazy_init=True).label_map == {2: 255}
