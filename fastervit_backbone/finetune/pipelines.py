"""Data pipelines of a plan: mmdet's, mmseg's and mmpretrain's own transforms, by strength of augmentation."""

from ..datasets.pixel_format import COLOR, PixelFormat
from ..inference.inputs import exact_resize
from .augmentations import AUGMENTATIONS
from .plan import Plan

_IMAGE = dict(type='LoadImageFromFile')


def pipelines(
    kind: str, plan: Plan, masks: bool, pixels: PixelFormat = COLOR
) -> tuple[list[dict], list[dict]]:
    """Configure the pipelines for training and for validation.

    Args:
        kind: of the data.
        plan: has the size, the strength of the augmentation, and whether images are mirrored.
        masks: whether objects have masks ('coco').
        pixels: how images are read; what changes colors is left out of other channels.
    """
    if kind == 'coco':
        both = _of_objects(plan, masks)
    else:
        both = _of_label_maps(plan) if kind == 'labels' else _of_classes(plan)
    train, val = ([_IMAGE | pixels.options() if step == _IMAGE else step for step in p] for p in both)
    if pixels.is_color:
        return train, val
    return _of_channels(train, pixels), _of_channels(val, pixels)


#: Transforms that expect colors in 8 bits, or fill what they uncover with black.
_OF_COLORS = ('RandomRotate', 'PhotoMetricDistortion', 'ColorJitter', 'RandAugment', 'RandomErasing')


def _of_channels(steps: list[dict], pixels: PixelFormat) -> list[dict]:
    """Leave out what is for colors, and resize with OpenCV instead of Pillow."""
    kept = [step for step in steps if step['type'] not in _OF_COLORS]
    return [step | exact_resize(pixels) if step.get('backend') == 'pillow' else step for step in kept]


def _flip(plan: Plan) -> list[dict]:
    return [dict(type='RandomFlip', prob=0.5)] if plan.flip and AUGMENTATIONS[plan.augment].changes else []


def _of_objects(plan: Plan, masks: bool) -> tuple[list[dict], list[dict]]:
    height, width = plan.size
    preset = AUGMENTATIONS[plan.augment]
    annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)
    resize = dict(type='Resize', scale=(width, height), keep_ratio=True)
    random_resize = dict(
        type='RandomResize', scale=(width, height), ratio_range=preset.scale, keep_ratio=True
    )
    crop = dict(
        type='RandomCrop',
        crop_size=(width, height),
        recompute_bbox=masks,
        allow_negative_crop=True,
    )
    visible = dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False)
    augmentation = [random_resize if preset.changes else resize]
    augmentation += [crop, visible] if preset.crops_objects else []
    augmentation += _flip(plan) + ([dict(type='PhotoMetricDistortion')] if preset.is_strong else [])
    meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    train = [_IMAGE, annotations, *augmentation, dict(type='PackDetInputs')]
    return train, [_IMAGE, resize, annotations, dict(type='PackDetInputs', meta_keys=meta_keys)]


def _of_label_maps(plan: Plan) -> tuple[list[dict], list[dict]]:
    height, width = plan.size
    annotations, pack = dict(type='LoadAnnotations'), dict(type='PackSegInputs')
    resize = dict(type='Resize', scale=(width, height), keep_ratio=True)
    preset = AUGMENTATIONS[plan.augment]
    if preset.label_scale is None:
        return [_IMAGE, annotations, resize, pack], [_IMAGE, resize, annotations, pack]
    rotate = dict(type='RandomRotate', prob=0.5, degree=10, pad_val=0, seg_pad_val=255)
    train = [
        _IMAGE,
        annotations,
        dict(type='RandomResize', scale=(width, height), ratio_range=preset.label_scale, keep_ratio=True),
        *([rotate] if preset.is_strong else []),
        dict(type='RandomCrop', crop_size=plan.size, cat_max_ratio=0.75),
        *_flip(plan),
        dict(type='PhotoMetricDistortion'),
        pack,
    ]
    return train, [_IMAGE, resize, annotations, pack]


def _of_classes(plan: Plan) -> tuple[list[dict], list[dict]]:
    height, width = plan.size
    bicubic = dict(backend='pillow', interpolation='bicubic')
    pack = dict(type='PackInputs')
    whole = [
        dict(type='ResizeEdge', scale=min(plan.size), edge='short', **bicubic),
        dict(type='CenterCrop', crop_size=(width, height)),
    ]
    crop = dict(type='RandomResizedCrop', scale=(width, height), crop_ratio_range=(0.5, 1.0), **bicubic)
    jitter = dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3)
    strong = [
        crop | dict(crop_ratio_range=(0.25, 1.0)),
        *_flip(plan),
        dict(type='RandAugment', policies='timm_increasing', num_policies=2, magnitude_level=9),
        dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3),
    ]
    preset = AUGMENTATIONS[plan.augment]
    light = [crop, *_flip(plan), jitter]
    augmentation = strong if preset.is_strong else light if preset.changes else whole
    return [_IMAGE, *augmentation, pack], [_IMAGE, *whole, pack]
