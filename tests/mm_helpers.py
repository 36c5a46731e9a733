"""Shared helpers for mmdet and mmseg: small models, batches, one training step."""

import copy
import functools

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import mmengine.config.utils
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import nn

import fastervit_backbone  # noqa: F401 (before any config is read: lets mmengine find mmseg's)
from fastervit_backbone import FasterViT
from fastervit_backbone.engine.config.adaptations import fit_to_machine
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.engine.config.reading import as_list
from fastervit_backbone.engine.runner.build import build_untrained

# a base of mmdet's is found in a hundred metafiles, which are read again for each
mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)

NANO = [32, 64, 128, 256]
_CONFIGS = {}


def save_untrained(config_path, path, *, options=None, dataset_meta=None):
    config = load_config(config_path, options)
    init_default_scope(config.default_scope)
    fit_to_machine(config, 'none')
    torch.manual_seed(0)
    model = build_untrained(config.model)
    with torch.no_grad():  # initial heads give nearly equal scores everywhere
        for name, p in model.named_parameters():
            if 'fc_cls' in name or 'conv_seg' in name:
                p.normal_(0, 0.5)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dataset_meta or {})), path)
    return path


def load(path):
    if path not in _CONFIGS:
        _CONFIGS[path] = Config.fromfile(path)
    return copy.deepcopy(_CONFIGS[path])


def build(config):
    init_default_scope(config.default_scope)
    fit_to_machine(config, 'none')
    torch.manual_seed(0)
    return build_untrained(config.model)


def with_nano(config):
    """Replace the config's FasterViT by nano with the same outputs; other backbones stay."""
    model = config.model
    if model.backbone.type == 'FasterViT':
        indices = model.backbone.get('out_indices', (0, 1, 2, 3))
        model.backbone = dict(type='FasterViT', arch='nano', out_indices=indices)
        channels = [NANO[i] for i in indices]
        if model.get('neck'):
            model.neck.in_channels = channels
        else:
            (model.get('panoptic_head') or model.decode_head).in_channels = channels
        if model.get('auxiliary_head'):
            model.auxiliary_head.in_channels = channels[model.auxiliary_head.in_index]
    if model.type == 'DINO':
        model.num_queries = 50  # 900 need as many positions, more than small images have
    return config


def with_less_work(config, *, regions=50):
    """Let two-stage detectors look at few regions, and do not pad the images of segmenters to 512 x 512."""
    model = config.model
    if model.data_preprocessor.get('size'):
        model.data_preprocessor.size = (64, 96)
    if 'roi_head' in model:
        model.train_cfg.rpn_proposal.max_per_img = model.test_cfg.rpn.max_per_img = regions
        for stage in as_list(model.train_cfg.rcnn):
            stage.sampler.num = 32
    return config


def narrow(config):
    """Reduce channels, regions and layers: many CPUs compute bfloat16 slowly."""
    model = config.model
    for name in ('neck', 'rpn_head', 'roi_head', 'bbox_head') if model.type != 'DINO' else ():
        _narrow(model.get(name))
    for stage in as_list((model.get('train_cfg') or {}).get('rcnn')):
        stage.sampler.num = 8
    for part, name in (('train_cfg', 'rpn_proposal'), ('test_cfg', 'rpn')):
        if name in (model.get(part) or {}):
            model[part][name].update(nms_pre=40, max_per_img=10)
    for part in ('encoder', 'decoder'):
        if part in model:
            model[part].num_layers = 1
    for part in (model.test_cfg, model.test_cfg.get('rcnn') or {}):
        if 'score_thr' in part:
            part.score_thr = 0.0  # an untrained model finds something
    return config


def _narrow(node):
    if not isinstance(node, dict | list):
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key in ('in_channels', 'out_channels') and isinstance(value, list):
            continue  # the backbone's
        if isinstance(value, int) and value in (2048, 1024, 256, 128):
            node[key] = {2048: 64, 1024: 64, 256: 32, 128: 16}[value]
        _narrow(value)


def semantic_batch(classes, *, ignored=False):
    from mmseg.structures import SegDataSample

    samples = [
        SegDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(60, 90), pad_shape=(64, 96)))
        for _ in range(2)
    ]
    for sample in samples:
        labels = torch.randint(classes, (1, 64, 96))
        labels[:, :40] = 255
        sample.gt_sem_seg = PixelData(data=torch.full_like(labels, 255) if ignored else labels)
    return dict(
        inputs=[torch.randint(256, (3, 64, 96), dtype=torch.uint8) for _ in samples], data_samples=samples
    )


def train_step(model, batch):
    losses = model.train()(**model.data_preprocessor(batch, training=True), mode='loss')
    total = sum(v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if 'loss' in k)
    assert torch.isfinite(total)
    model.zero_grad()
    total.backward()
    return [p.grad for p in model.backbone.parameters()]


def check_segmenter(model, classes):
    gradients = train_step(model, semantic_batch(classes))
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    train_step(model, semantic_batch(classes, ignored=True))
    with torch.no_grad():
        results = model.eval()(
            **model.data_preprocessor(semantic_batch(classes), training=False), mode='predict'
        )
    for result in results:
        assert result.pred_sem_seg.shape == (60, 90)  # the size of the file, not of the input
        assert result.pred_sem_seg.data.max() < classes
        assert torch.isfinite(result.seg_logits.data).all()


def check_detector(model, masks):
    heads = getattr(model, 'panoptic_head', None) or getattr(model, 'roi_head', model).bbox_head
    classes = (heads[0] if isinstance(heads, torch.nn.ModuleList) else heads).num_classes
    for objects in ([3, 1], [0, 0]):
        batch = demo_mm_inputs(
            2, [[3, 96, 128], [3, 120, 80]], num_items=objects, num_classes=classes, with_mask=masks
        )
        gradients = train_step(model, batch)
        assert all(g is None or torch.isfinite(g).all() for g in gradients)
        if isinstance(model.backbone, FasterViT) and objects != [0, 0]:
            assert all(g is not None for g in gradients)
    batch = demo_mm_inputs(
        2, [[3, 96, 128], [3, 120, 80]], num_items=[1, 1], num_classes=classes, with_mask=masks
    )
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(batch, training=False), mode='predict')
    for result in results:
        instances = result.pred_instances
        assert len(instances.scores) <= 300 and instances.bboxes.shape[1] == 4
        assert not masks or instances.masks.shape[0] == len(instances.scores)
        assert np.isfinite(instances.bboxes.numpy()).all()


class ToyModel(BaseModel):
    """Minimal model with a BatchNorm; NaN inputs make its loss NaN."""

    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(2), nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.layer(self.norm(inputs)).square().mean())


class InfiniteLoss(ToyModel):
    """The loss is infinite if the first input is above 10, but its gradients stay finite."""

    def forward(self, inputs, data_samples=None, mode='loss'):
        loss = super().forward(inputs)['loss']
        return dict(loss=loss + torch.where(inputs[0, 0] > 10, torch.inf, 0.0))
