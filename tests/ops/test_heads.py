"""Heads of mmdet whose operators mmcv would compile train with our backbone, without a compiler."""

import pytest

pytest.importorskip('mmdet')

from mmengine.config import Config

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.evaluate import evaluate
from fastervit_backbone.evaluation.curves import read_log
from fastervit_backbone.train import train
from tests.helpers import IN_PROCESS, ROOT

#: mmdet's config -> what it asks of the operators.
HEADS = {
    'vfnet/vfnet_r50_fpn_1x_coco.py': 'deform_conv',
    'reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py': 'deform_conv',
    'guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py': 'deform_conv in groups, masked_conv',
    'dyhead/atss_r50_fpn_dyhead_1x_coco.py': 'modulated_deform_conv',
}
#: Deformable convolutions in the backbone itself, which only its own ResNet has.
RESNET = 'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py'

PARAMETERS = (*HEADS, RESNET)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', train=20, val=2, size=(96, 128))


@pytest.mark.slow  # values and gradients of the operators: test_torchvision_ops.py
@pytest.mark.parametrize('name', PARAMETERS)
def test_twenty_steps_and_an_evaluation(name, shapes, tmp_path, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    (tmp_path / 'base.py').write_text(f"_base_ = 'mmdet::{name}'\n")
    config = Config.fromfile(tmp_path / 'base.py')
    data = Config.fromfile(ROOT / 'configs' / '_base_' / 'shapes_instance.py')
    config.update({key: value for key, value in data.items() if key.endswith(('_dataloader', '_evaluator'))})
    for evaluator in (config.val_evaluator, config.test_evaluator):
        evaluator.metric = 'bbox'
    if name == RESNET:
        config.model.backbone.init_cfg = None
    else:
        config.model.backbone = dict(type='FasterViT', arch='nano')
        neck = config.model.neck
        (neck[0] if isinstance(neck, list) else neck).in_channels = [32, 64, 128, 256]
    test_cfg = config.model.test_cfg
    test_cfg.get('rcnn', test_cfg).score_thr = 0.0  # twenty steps find nothing for sure
    config.param_scheduler = []
    config.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=5e-4), clip_grad=dict(max_norm=10))
    path = tmp_path / 'config.py'
    config.dump(path)
    options = IN_PROCESS | {
        'train_dataloader.batch_size': 1,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1,
    }
    train(path, work_dir=tmp_path / 'run', seed=0, auto_scale_lr=False, options=options)
    losses = [line['loss'] for line in read_log(tmp_path / 'run').lines if 'loss' in line]
    assert len(losses) == 20 and sum(losses[-5:]) < sum(losses[:5])
    metrics = evaluate(path, tmp_path / 'run' / 'epoch_1.pth', work_dir=tmp_path / 'test', options=IN_PROCESS)
    assert metrics['coco/bbox_mAP'] >= 0
