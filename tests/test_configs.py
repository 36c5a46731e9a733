"""Every config under configs/: reads, is short, fits its backbone, and trains and predicts with the nano backbone in place of its own."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope

from fastervit_backbone import FasterViT
from fastervit_backbone.engine.checks import check_channels, fit_to_machine

from .conftest import ROOT

LEAVES = sorted(p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts)
FAST = ('cascade_fastervit4_3x.py', 'cascade_shapes.py')  # one of each family; the others differ in numbers


def names(paths):
    return [str(p.relative_to(ROOT / 'configs')) for p in paths]


def test_there_are_configs():
    assert set(names(LEAVES)) >= {f'cascade_fastervit{v}_3x.py' for v in ('0', '1', '2', '3', '4', '4_21k_384')}


@pytest.mark.parametrize('path', LEAVES, ids=names(LEAVES))
def test_a_config_is_a_base_plus_a_difference(path):
    config = Config.fromfile(path)
    assert len(path.read_text().splitlines()) <= (40 if path.parent.name == 'configs' else 90)
    assert config.custom_imports == dict(imports=['fastervit_backbone'], allow_failed_imports=False)
    check_channels(config)
    for key in ('train', 'val', 'test'):
        assert config[f'{key}_dataloader'] and config[f'{key}_cfg']
    assert config.optim_wrapper.constructor == 'LayerDecayOptimWrapperConstructor'
    strides = config.model.rpn_head.anchor_generator.strides
    with torch.device('meta'):
        net = FasterViT(**{k: v for k, v in config.model.backbone.items() if k != 'type'})
    assert tuple(strides[:4]) == net.out_strides == tuple(config.model.roi_head.bbox_roi_extractor.featmap_strides)


@pytest.mark.parametrize('variant', ['0', '1', '2', '3', '4', '4_21k_384'])
def test_the_papers_training(variant, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/somewhere/coco')
    config = Config.fromfile(ROOT / 'configs' / f'cascade_fastervit{variant}_3x.py')
    backbone, optimizer = config.model.backbone, config.optim_wrapper.optimizer
    assert backbone.arch == variant and backbone.norm_eval
    assert f'fastervit_{variant.split("_384")[0]}_' in backbone.init_cfg.checkpoint
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert config.auto_scale_lr.base_batch_size == 16 and config.train_cfg.max_epochs == 36
    assert config.param_scheduler[1].milestones == [27, 33]
    heads = config.model.roi_head.bbox_head
    assert all((h.num_shared_convs, h.num_shared_fcs, h.loss_bbox.type) == (4, 1, 'GIoULoss') for h in heads)
    choice = next(t for t in config.train_dataloader.dataset.pipeline if t.type == 'RandomChoice')
    assert any(t.type == 'RandomCrop' for t in choice.transforms[1])
    shorter = [min(s) for t in choice.transforms[0] for s in t.scales]
    assert min(shorter) == 480 and max(shorter) == 800
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert loader.dataset.data_root == '/somewhere/coco/'
    assert config.val_evaluator.ann_file == config.test_evaluator.ann_file == '/somewhere/coco/annotations/instances_val2017.json'


def build(config):
    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    fit_to_machine(config, 'none')
    torch.manual_seed(0)
    return MODELS.build(config.model)


@pytest.mark.parametrize('path', [p if p.name in FAST else pytest.param(p, marks=pytest.mark.slow) for p in LEAVES], ids=names(LEAVES))
def test_loss_and_predict_with_nano(path):
    """A mixed batch (H != W), then one whose images have no objects at all."""
    config = Config.fromfile(path)
    config.model.backbone = dict(type='FasterViT', arch='nano')
    config.model.neck.in_channels = [32, 64, 128, 256]
    model = build(config)
    classes = config.model.roi_head.bbox_head[0].num_classes
    for objects in ([3, 1], [0, 0]):
        batch = demo_mm_inputs(2, [[3, 96, 128], [3, 120, 80]], num_items=objects, num_classes=classes, with_mask=True)
        data = model.data_preprocessor(batch, training=True)
        losses = model.train()(**data, mode='loss')
        total = sum(v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if 'loss' in k)
        assert torch.isfinite(total)
        model.zero_grad()
        total.backward()
        gradients = [p.grad for p in model.backbone.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    batch = demo_mm_inputs(2, [[3, 96, 128], [3, 120, 80]], num_items=[1, 1], num_classes=classes, with_mask=True)
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(batch, training=False), mode='predict')
    for result in results:
        instances = result.pred_instances
        assert instances.masks.shape[0] == len(instances.scores) <= 100
        assert np.isfinite(instances.bboxes.numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    'path', [p for p in LEAVES if p.parent.name == 'configs'], ids=names(p for p in LEAVES if p.parent.name == 'configs')
)
def test_whole_model_predicts(path):
    config = Config.fromfile(path)
    model = build(config).eval()
    batch = demo_mm_inputs(1, [[3, 160, 224]], num_items=[1], with_mask=True)
    with torch.no_grad():
        result = model(**model.data_preprocessor(batch, training=False), mode='predict')[0]
    assert result.pred_instances.bboxes.shape[1] == 4


def test_roi_align_reads_what_the_backbone_gives():
    """mmcv's RoIAlign takes memory as it lies: it must get contiguous maps. Checked against torchvision's on the neck's output."""
    roi_align = pytest.importorskip('torchvision').ops.roi_align
    model = build(Config.fromfile(ROOT / 'configs' / 'demo' / 'cascade_shapes.py'))
    rois = torch.tensor([[0, 25.0, 86.0, 89.0, 144.0], [1, 10.0, 10.0, 30.0, 60.0]])
    with torch.no_grad():
        maps = model.neck(model.backbone(torch.randn(2, 3, 160, 192)))
        extractor = model.roi_head.bbox_roi_extractor[0]
        level = extractor.map_roi_levels(rois, 4)
        ours = extractor(maps[:4], rois)
        for i, roi in enumerate(rois):
            m = maps[level[i]]
            expected = roi_align(
                m, roi[None], 7, 1 / extractor.featmap_strides[level[i]], extractor.roi_layers[0].sampling_ratio or -1, True
            )
            torch.testing.assert_close(ours[i : i + 1], expected, rtol=1e-4, atol=1e-4)
