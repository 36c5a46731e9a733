"""Write a plan as one flat, commented config that fastervit train reads and users edit."""

import math
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..checkpoints.io import NANO
from ..engine.config.classes import fit_heads
from ..engine.config.load import load_config
from ..engine.config.mixed_precision import amp_options
from ..engine.config.reading import as_list
from ..engine.config.write import as_python, escape
from ..recipes import learns_masks
from ..timm_cfgs import default_cfgs
from ..utils.errors import UserError
from .augmentations import AUGMENTATIONS
from .channels import set_channels
from .pipelines import pipelines
from .plan import Plan
from .training_data import TrainingData

#: Keys kept from the base config, in the order they are written, with the comment above each.
_COMMENTS = {
    'custom_imports': '',
    'default_scope': '',
    'model': 'Model.',
    'train_dataloader': 'Training data; batch_size is per process.',
    'val_dataloader': 'Validation data.',
    'test_dataloader': 'Test data; fastervit test and fastervit predict use its classes and pipeline.',
    'val_evaluator': 'Metrics.',
    'test_evaluator': '',
    'train_cfg': 'Length of the training, and epochs between evaluations.',
    'val_cfg': '',
    'test_cfg': '',
    'optim_wrapper': 'Optimizer. decay_rate below 1: each layer learns slower than the next by this factor.',
    'param_scheduler': 'Learning rate: linear warm-up unless the training is very short, then cosine decay.\n'
    'T_max and end are in epochs where by_epoch is True.',
    'auto_scale_lr': 'Images per step that lr is for; fastervit train scales lr for several processes.',
    'default_hooks': 'Logs and checkpoints: keep the last two and the best.',
    'custom_hooks': 'EMA (if present): the averaged weights are evaluated and saved as best.\n'
    'Early stopping: patience counts evaluations, from epoch begin on.',
    'randomness': '',
    'env_cfg': 'Runtime.',
    'vis_backends': '',
    'visualizer': '',
    'log_processor': '',
    'log_level': '',
    'load_from': 'Checkpoint of a whole model to start from, or None.',
    'resume': '',
}
#: --log -> module that it needs, and mmengine's backend.
LOGGERS: dict[str, tuple[str, dict]] = {
    'tensorboard': ('tensorboard', dict(type='TensorboardVisBackend')),
    'wandb': ('wandb', dict(type='WandbVisBackend', init_kwargs=dict(project='fastervit', mode='offline'))),
    'mlflow': ('mlflow', dict(type='MLflowVisBackend', exp_name='fastervit')),
}
#: Keys written as a reference to another key where both have the same value.
_ALIASES = {'test_dataloader': 'val_dataloader', 'test_evaluator': 'val_evaluator'}


def build_config(
    data: TrainingData, plan: Plan, *, seed: int, lr: float | None = None, log: Sequence[str] = ()
) -> Config:
    """Build the config of a plan.

    Args:
        data: to train on.
        plan: for that data.
        seed: for all randomness.
        lr: learning rate at the plan's images per step; None scales the base config's linearly.
        log: further loggers, of :data:`LOGGERS`.
    """
    base = load_config(plan.base)
    config = ConfigDict({key: base[key] for key in _COMMENTS if key in base})
    masks = data.kind == 'coco' and data.has_masks and learns_masks(config.model)
    _set_model(config, data, plan, masks)
    fit_heads(config, len(data.classes))
    metric = _set_data(config, data, plan, masks)
    _set_schedule(config, base, plan, lr)
    config.train_cfg = dict(
        type='EpochBasedTrainLoop', max_epochs=plan.epochs, val_interval=plan.val_interval
    )
    config.val_cfg, config.test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
    _set_hooks(config, plan, metric)
    config.log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
    config.randomness = dict(seed=seed)
    if log:
        backends = [LOGGERS[name][1] for name in log]
        config.visualizer.vis_backends = [*config.visualizer.vis_backends, *backends]
        config.pop('vis_backends', None)
    config.load_from, config.resume = _absolute(plan.weights) if plan.start == 'model' else None, False
    if data.kind == 'folders' and plan.start == 'published' and plan.arch != 'nano':
        config.load_from = default_cfgs[f'fastervit_{plan.arch}'].default.url
    config.custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)
    return Config(config)


def config_text(config: Config, head: Mapping[str, str], command: str) -> str:
    """Format the config with comments.

    Args:
        config: as built.
        head: description of the plan, name -> text.
        command: that made the config.
    """
    lines = [
        f'# Written by: {command}',
        '# Edit it as you like, then run: fastervit train THIS_FILE --work-dir FOLDER',
        '#',
        *(f'# {name}: {text}' for name, text in head.items()),
    ]
    lines = [escape(' '.join(line.split())) for line in lines]  # no line break in the data may end a comment
    for key, comment in _COMMENTS.items():
        if key not in config:
            continue
        if comment:
            lines += ['', *(f'# {line}' for line in comment.split('\n'))]
        alias = _ALIASES.get(key)
        if alias and config[key] == config[alias]:
            lines.append(f'{key} = {alias}')
        else:
            lines.append(as_python(Config({key: config[key]})).strip())
    return '\n'.join(lines) + '\n'


def check_loggers(log: Sequence[str]) -> None:
    """Raise UserError if the package of a logger is missing."""
    for name in log:
        if find_spec(LOGGERS[name][0]) is None:
            raise UserError(f'--log {name}: not installed: pip install {LOGGERS[name][0]}')


def _absolute(path: str | Path) -> str:
    return os.path.abspath(path)


def _learn_at_full_rate(paramwise_cfg: dict[str, Any]) -> None:
    if 'backbone_lr_mult' in paramwise_cfg:
        paramwise_cfg['backbone_lr_mult'] = 1.0
    for options in (paramwise_cfg.get('custom_keys') or {}).values():
        if 'lr_mult' in options:
            options['lr_mult'] = 1.0


def _set_backbone(backbone: ConfigDict, plan: Plan) -> None:
    if plan.start != 'published':
        backbone.pop('init_cfg', None)
    elif plan.arch == 'nano':
        backbone.init_cfg = dict(type='Pretrained', checkpoint=NANO)
    if plan.start == 'backbone':
        backbone.init_cfg = dict(type='Pretrained', checkpoint=_absolute(plan.weights))
    if plan.start == 'nothing':
        backbone.norm_eval = False
    if plan.frozen_stages >= 0:
        backbone.frozen_stages = plan.frozen_stages
    if plan.adapters:
        backbone.adapters = plan.adapters


def _set_model(config: ConfigDict, data: TrainingData, plan: Plan, masks: bool) -> None:
    model = config.model
    if data.kind == 'coco' and not masks and model.get('roi_head'):
        for key in ('mask_head', 'mask_roi_extractor', 'mask_iou_head'):
            model.roi_head.pop(key, None)
    _set_backbone(model.backbone, plan)
    if data.kind == 'folders':
        model.update(type='ImageClassifier', train_cfg=None)  # no MESA, Mixup and CutMix for few images
        model.pop('coefficient')
    if data.kind == 'coco':
        for part in as_list((model.get('train_cfg') or {}).get('rcnn')):
            # a quarter of the regions may be objects: room for all those of a crowded image
            part.sampler.num = max(part.sampler.num, 2 ** math.ceil(math.log2(4 * max(1, data.crowd))))
        model.data_preprocessor.pop('batch_augments', None)  # to the size of the base's crops
    if data.kind == 'labels':
        _set_segmenter(model, plan)
    if data.statistics is not None:
        set_channels(model, data.statistics)


def _set_segmenter(model: ConfigDict, plan: Plan) -> None:
    for key in ('size', 'size_divisor'):
        model.data_preprocessor.pop(key, None)
    whole = dict(size_divisor=32)
    model.data_preprocessor.update(
        whole if AUGMENTATIONS[plan.augment].label_scale is None else dict(size=plan.size), test_cfg=whole
    )
    for head in as_list(model.decode_head) + as_list(model.get('auxiliary_head')):
        for loss in as_list(head.get('loss_decode')):
            loss.pop('class_weight', None)  # for the classes of the base config


def _set_data(config: ConfigDict, data: TrainingData, plan: Plan, masks: bool) -> str:
    """Set dataloaders and evaluators; returns the metric that decides which checkpoint is best."""
    train_pipeline, val_pipeline = pipelines(data.kind, plan, masks, data.pixels)
    if data.kind == 'coco':
        metrics = ['bbox', 'segm'] if masks else ['bbox']
        best = f'coco/{metrics[-1]}_mAP'
        config.val_evaluator = dict(type='CocoMetric', ann_file=_absolute(data.val), metric=metrics)
    elif data.kind == 'folders':
        best, topk = 'accuracy/top1', tuple(k for k in (1, 5) if k < len(data.classes))
        config.val_evaluator = dict(type='Accuracy', topk=topk)
    else:
        best = 'mIoU'
        config.val_evaluator = dict(type='IoUMetric', iou_metrics=[best])
    config.train_dataloader = _dataloader(data, plan, 0, train_pipeline)
    config.val_dataloader = _dataloader(data, plan, 1, val_pipeline)
    config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
    return best


def _dataloader(data: TrainingData, plan: Plan, split: int, pipeline: list[dict]) -> dict:
    """Configure the dataloader of a split: 0 for training, 1 for validation."""
    training = split == 0
    annotations, images = _absolute((data.train, data.val)[split]), _absolute(data.image_folders[split])
    if data.kind == 'coco':
        dataset = dict(type='CocoDataset', ann_file=annotations, data_prefix=dict(img=images))
    elif data.kind == 'folders':
        dataset = dict(type='ImageFolderDataset', data_root=annotations, folders=tuple(data.classes))
    else:
        dataset = dict(
            type='LabelMapDataset',
            data_prefix=dict(img_path=images, seg_map_path=annotations),
            img_suffix=data.image_suffix,
            ignore_index=data.ignore_index,
        )
    dataset |= dict(metainfo=dict(classes=tuple(data.classes)), pipeline=pipeline, test_mode=not training)
    if training and plan.balance:
        dataset = dict(type='ClassBalancedDataset', oversample_thr=plan.balance.threshold, dataset=dataset)
    loader = dict(
        batch_size=plan.batch_size if training or data.kind == 'folders' else 1,
        num_workers=plan.num_workers,
        persistent_workers=plan.num_workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=training),
        dataset=dataset,
    )
    if training and data.kind != 'coco':
        loader['drop_last'] = True  # a last batch of one image is too small for BatchNorm
    if training and data.kind == 'coco':
        loader['batch_sampler'] = dict(type='AspectRatioBatchSampler')
    return loader


def _set_schedule(config: ConfigDict, base: Config, plan: Plan, lr: float | None) -> None:
    """Set optimizer and learning rate schedule."""
    wrapper = config.optim_wrapper
    per_step = plan.batch_size * plan.accumulate * plan.processes
    if base.default_scope == 'mmpretrain':  # LAMB is for thousands of images a step
        wrapper.pop('paramwise_cfg', None)
        wrapper.constructor = 'LayerDecayOptimWrapperConstructor'
        wrapper.optimizer = ConfigDict(type='AdamW', lr=5e-4 * per_step / 128, weight_decay=0.05)
        lr = wrapper.optimizer.lr if lr is None else lr
    base_batch_size = (base.get('auto_scale_lr') or {}).get('base_batch_size', per_step)
    wrapper.optimizer.lr = wrapper.optimizer.lr * per_step / base_batch_size if lr is None else lr
    if plan.accumulate > 1:
        wrapper.accumulative_counts = plan.accumulate
    if wrapper.get('constructor') == 'LayerDecayOptimWrapperConstructor':
        wrapper.paramwise_cfg = dict(wrapper.get('paramwise_cfg') or {}, decay_rate=plan.decay_rate)
    if plan.adapters:  # they are no pretrained weights, which learn more slowly
        _learn_at_full_rate(wrapper.get('paramwise_cfg') or {})
    if not wrapper.get('clip_grad'):
        wrapper.clip_grad = dict(max_norm=10)
    if plan.amp:
        wrapper.update(amp_options() or {})
    warmup_steps = min(500 * plan.accumulate, plan.epochs * plan.steps // 10)
    warmup = dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup_steps)
    cosine = dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=plan.epochs,
        T_max=plan.epochs,
        convert_to_iter_based=True,
    )
    config.param_scheduler = [warmup, cosine] if warmup_steps > 1 else [cosine]
    config.auto_scale_lr = dict(base_batch_size=per_step)


def _set_hooks(config: ConfigDict, plan: Plan, metric: str) -> None:
    """Set logging, checkpoints, EMA and early stopping."""
    config.default_hooks.logger = dict(
        type='LoggerHook', interval=min(50, max(1, plan.steps // 2)), log_metric_by_epoch=True
    )
    config.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=2, save_best=metric, rule='greater'
    )
    config.custom_hooks = []
    if plan.ema_momentum:
        ema = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=plan.ema_momentum)
        if plan.accumulate > 1:
            ema['interval'] = plan.accumulate
        config.custom_hooks.append(dict(ema, update_buffers=True))
    stopping = dict(type='EarlyStopping', monitor=metric, patience=plan.patience, begin=plan.epochs // 2)
    config.custom_hooks.append(dict(stopping, strict=False, min_delta=0.0))
