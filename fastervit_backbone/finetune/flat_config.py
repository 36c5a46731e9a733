"""The plan as one flat, commented config that tools/train.py takes and people edit."""

import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..apis.train import amp_options
from ..engine.config.adapt import fit_heads
from ..engine.config.load import load_config
from ..engine.config.validate import as_list
from .own_data import OwnData
from .plan import RESIZE_RANGE, Plan, steps_of

#: What is kept of the base config, in the order it is written, with what is said above it.
_PARTS = {
    'custom_imports': '',
    'default_scope': '',
    'model': 'Model.',
    'train_dataloader': 'Training data; batch_size is for each process.',
    'val_dataloader': 'Validation data.',
    'test_dataloader': 'What tools/test.py and tools/predict.py take their classes and pipeline from.',
    'val_evaluator': 'Metrics.',
    'test_evaluator': '',
    'train_cfg': 'Length of the training, and how often it is evaluated.',
    'val_cfg': '',
    'test_cfg': '',
    'optim_wrapper': 'Optimizer. decay_rate below 1: layers nearer to the image learn slower by this factor each.',
    'param_scheduler': 'Warm-up where the run is long enough, then a cosine. T_max and end are in epochs where by_epoch is True.',
    'auto_scale_lr': 'lr is for this many images a step: tools/train.py scales it when several processes make more.',
    'default_hooks': 'Logs and checkpoints: the last two and the best.',
    'custom_hooks': 'EMA, if any: the average of the weights is evaluated and saved as best. Early stopping: patience counts evaluations,\n'
    '# from epoch begin on.',
    'randomness': '',
    'env_cfg': 'Runtime.',
    'vis_backends': '',
    'visualizer': '',
    'log_processor': '',
    'log_level': '',
    'load_from': 'A checkpoint of a whole model to start from, or None.',
    'resume': '',
}


def build_config(data: OwnData, plan: Plan, *, seed: int, lr: float | None = None) -> Config:
    """The config of a plan.

    Args:
        data: as read.
        plan: as made.
        seed: of everything random.
        lr: learning rate at the plan's batch; None scales the base config's.
    """
    base = load_config(plan.base)
    config = ConfigDict({k: base[k] for k in _PARTS if k in base})
    coco = data.kind == 'coco'
    masks = coco and data.masks and bool((config.model.get('roi_head') or {}).get('mask_head'))
    _set_model(config, data, plan, masks)
    fit_heads(config, len(data.classes))
    pipelines = _coco_pipelines(plan, masks) if coco else _label_pipelines(plan)
    config.train_dataloader = _loader(data, plan, 0, pipelines[0])
    config.val_dataloader = _loader(data, plan, 1, pipelines[1])
    config.test_dataloader = config.val_dataloader
    if coco:
        metric = ['bbox', 'segm'] if masks else ['bbox']
        config.val_evaluator = dict(type='CocoMetric', ann_file=_path(data.val), metric=metric)
    else:
        config.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    config.test_evaluator = config.val_evaluator
    figure = 'mIoU' if not coco else 'coco/segm_mAP' if masks else 'coco/bbox_mAP'
    steps = steps_of(data, plan.batch)
    _set_schedule(config, base, plan, steps, lr)
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=plan.epochs, val_interval=plan.every)
    config.val_cfg, config.test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
    config.default_hooks = dict(
        config.default_hooks,
        logger=dict(type='LoggerHook', interval=min(50, max(1, steps // 2)), log_metric_by_epoch=True),
        checkpoint=dict(
            type='CheckpointHook',
            by_epoch=True,
            interval=1,
            max_keep_ckpts=2,
            save_best=figure,
            rule='greater',
        ),
    )
    config.log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
    ema = (
        [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=plan.ema, update_buffers=True)]
        if plan.ema
        else []
    )
    config.custom_hooks = [
        *ema,
        dict(
            type='EarlyStopping',
            monitor=figure,
            patience=plan.patience,
            begin=plan.epochs // 2,
            strict=False,
            min_delta=0.0,
        ),
    ]
    config.randomness = dict(seed=seed)
    config.load_from, config.resume = _path(plan.weights) if plan.start == 'model' else None, False
    modules = ['fastervit_backbone']
    config.custom_imports = dict(imports=modules, allow_failed_imports=False)
    return Config(config)


def config_text(config: Config, head: Mapping[str, str], command: str) -> str:
    """The config as a person would want to find it.

    Args:
        config: as built.
        head: what the plan says of itself.
        command: that made it.
    """
    lines = [
        f'# Written by: {command}',
        '# Edit it as you like, then: python tools/train.py THIS_FILE --work-dir FOLDER',
        '#',
    ]
    lines += [f'# {name}: {text}' for name, text in head.items()]
    lines = [
        ' '.join(line.split()) for line in lines
    ]  # whatever is in the data, a comment ends with its line
    for key, comment in _PARTS.items():
        if key not in config:
            continue
        lines += ['', f'# {comment}'] if comment else []
        same = {'test_dataloader': 'val_dataloader', 'test_evaluator': 'val_evaluator'}.get(key)
        if same and config[key] == config[same]:
            lines.append(f'{key} = {same}')
        else:
            lines.append(Config({key: config[key]}).pretty_text.strip())
    return '\n'.join(lines) + '\n'


def _path(path: str | Path) -> str:
    return os.path.abspath(path)


def _set_model(config: ConfigDict, data: OwnData, plan: Plan, masks: bool) -> None:
    model = config.model
    if data.kind == 'coco' and not masks and model.get('roi_head'):
        for key in ('mask_head', 'mask_roi_extractor', 'mask_iou_head'):
            model.roi_head.pop(key, None)
    backbone = model.backbone
    if plan.start != 'published':
        backbone.pop('init_cfg', None)
    if plan.start == 'backbone':
        backbone.init_cfg = dict(type='Pretrained', checkpoint=_path(plan.weights))
    if plan.start == 'nothing':
        backbone.norm_eval = False
    if plan.frozen_stages >= 0:
        backbone.frozen_stages = plan.frozen_stages
    if data.kind == 'labels':
        model.data_preprocessor.pop('size_divisor', None)
        model.data_preprocessor.update(size=plan.size, test_cfg=dict(size_divisor=32))
        for head in as_list(model.decode_head) + as_list(model.get('auxiliary_head')):
            for loss in as_list(head.get('loss_decode')):
                loss.pop('class_weight', None)  # the base's classes'


def _loader(data: OwnData, plan: Plan, split: int, pipeline: list[dict]) -> dict:
    training = split == 0
    annotations = _path((data.train, data.val)[split])
    dataset = dict(metainfo=dict(classes=tuple(data.classes)), pipeline=pipeline, test_mode=not training)
    if data.kind == 'coco':
        dataset = dict(
            type='CocoDataset',
            ann_file=annotations,
            data_prefix=dict(img=_path(data.images[split])),
            **dataset,
        )
    else:
        folders = dict(img_path=_path(data.images[split]), seg_map_path=annotations)
        dataset = dict(
            type='LabelMapDataset',
            data_prefix=folders,
            img_suffix=data.suffix,
            ignore_index=data.ignored,
            **dataset,
        )
    loader = dict(
        batch_size=plan.batch if training else 1,
        num_workers=plan.workers,
        persistent_workers=plan.workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=training),
        dataset=dataset,
    )
    if training and data.kind == 'labels':
        loader['drop_last'] = True  # one image alone is too little for BatchNorm
    if training and data.kind == 'coco':
        loader['batch_sampler'] = dict(type='AspectRatioBatchSampler')
    return loader


def _coco_pipelines(plan: Plan, masks: bool) -> tuple[list[dict], list[dict]]:
    height, width = plan.size
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)]
    train = [
        *load,
        dict(type='RandomResize', scale=(width, height), ratio_range=RESIZE_RANGE, keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    shown = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    val = [
        load[0],
        dict(type='Resize', scale=(width, height), keep_ratio=True),
        load[1],
        dict(type='PackDetInputs', meta_keys=shown),
    ]
    return train, val


def _label_pipelines(plan: Plan) -> tuple[list[dict], list[dict]]:
    height, width = plan.size
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    train = [
        *load,
        dict(type='RandomResize', scale=(width, height), ratio_range=(0.75, 1.5), keep_ratio=True),
        dict(type='RandomCrop', crop_size=plan.size, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs'),
    ]
    return train, [
        load[0],
        dict(type='Resize', scale=(width, height), keep_ratio=True),
        load[1],
        dict(type='PackSegInputs'),
    ]


def _set_schedule(config: ConfigDict, base: Config, plan: Plan, steps: int, lr: float | None) -> None:
    optim = config.optim_wrapper
    reference = (base.get('auto_scale_lr') or {}).get('base_batch_size', plan.batch)
    optim.optimizer.lr = lr if lr is not None else optim.optimizer.lr * plan.batch / reference
    if optim.get('constructor') == 'LayerDecayOptimWrapperConstructor':
        optim.paramwise_cfg = dict(decay_rate=plan.decay_rate)
    if not optim.get('clip_grad'):
        optim.clip_grad = dict(max_norm=10)
    if plan.amp:
        optim.update(amp_options())
    warm = min(500, plan.epochs * steps // 10)
    config.param_scheduler = [
        *([dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warm)] if warm > 1 else []),
        dict(
            type='CosineAnnealingLR',
            by_epoch=True,
            begin=0,
            end=plan.epochs,
            T_max=plan.epochs,
            convert_to_iter_based=True,
        ),
    ]
    config.auto_scale_lr = dict(base_batch_size=plan.batch)
