"""The heads that FasterViT comes with, a row each: configs, data, parts of the model, exported graph.

A further head of mmdet or mmseg is one row here and one config.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A head and what it learns.

    Attributes:
        configs: names of its configs, with ``{}`` for the arch.
        kind: of data: 'coco', 'labels' (label maps) or 'folders' (one folder of images per class).
        model: type of the model in its configs.
        parts: of the model that have ``num_classes``, as dotted paths.
        masks: path whose presence lets it learn masks; None: it learns none.
        masks_optional: whether it also learns from boxes alone.
        nano: config of the nano backbone; None: there is none.
        min_batch: images that a training step needs.
        graph: class that exports a detector, see :mod:`~fastervit_backbone.export.build`.
        mim: its name, the part after the backbone, and the data, as mmdet and mmseg write names of configs;
            None: named as mmpretrain does.
        section: of the page of models.
    """

    configs: str
    kind: str
    model: str
    parts: tuple[str, ...]
    masks: str | None = None
    masks_optional: bool = True
    nano: str | None = None
    min_batch: int = 1
    graph: str | None = None
    mim: tuple[str, str, str] | None = None
    section: str = 'Other detectors'


_REGIONS = ('roi_head.bbox_head', 'roi_head.mask_head')
_PIXELS = ('decode_head', 'auxiliary_head')

#: ``finetune --model`` -> its row. The first of a kind of data is the default.
RECIPES = {
    'cascade': Recipe(
        configs='cascade_fastervit{}_3x.py',
        kind='coco',
        model='CascadeRCNN',
        parts=_REGIONS,
        masks='roi_head.mask_head',
        nano='demo/cascade_shapes.py',
        graph='TwoStageGraph',
        mim=('cascade-mask-rcnn', 'fpn_ms-crop-{}_coco', 'COCO'),
        section='Cascade Mask R-CNN, COCO',
    ),
    'mask-rcnn': Recipe(
        configs='mask-rcnn_fastervit{}_1x.py',
        kind='coco',
        model='MaskRCNN',
        parts=_REGIONS,
        masks='roi_head.mask_head',
        masks_optional=False,
        graph='TwoStageGraph',
        mim=('mask-rcnn', 'fpn_{}_coco', 'COCO'),
    ),
    'faster-rcnn': Recipe(
        configs='faster-rcnn_fastervit{}_voc0712.py',
        kind='coco',
        model='FasterRCNN',
        parts=_REGIONS,
        graph='TwoStageGraph',
        mim=('faster-rcnn', 'fpn_{}', 'VOC0712'),
    ),
    'retinanet': Recipe(
        configs='retinanet_fastervit{}_1x.py',
        kind='coco',
        model='RetinaNet',
        parts=('bbox_head',),
        graph='DenseGraph',
        mim=('retinanet', 'fpn_{}_coco', 'COCO'),
    ),
    'atss': Recipe(
        configs='atss_fastervit{}_1x.py',
        kind='coco',
        model='ATSS',
        parts=('bbox_head',),
        graph='DenseGraph',
        mim=('atss', 'fpn_{}_coco', 'COCO'),
    ),
    'dino': Recipe(
        configs='dino_fastervit{}_12e.py',
        kind='coco',
        model='DINO',
        parts=('bbox_head',),
        nano='demo/dino_shapes.py',
        graph='DinoGraph',
        mim=('dino-4scale', '{}_coco', 'COCO'),
        section='DINO, COCO',
    ),
    'mask2former': Recipe(
        configs='mask2former_fastervit{}_50e.py',
        kind='coco',
        model='Mask2Former',
        parts=(),  # its panoptic_head counts things and stuff
        masks='panoptic_head',
        masks_optional=False,
        nano='demo/mask2former_shapes.py',
        graph='Mask2FormerGraph',
        mim=('mask2former', 'lsj-{}_coco', 'COCO'),
        section='Mask2Former: COCO, ADE20K',
    ),
    'rtmdet-ins': Recipe(
        configs='rtmdet-ins_fastervit{}_300e.py',
        kind='coco',
        model='RTMDet',
        parts=('bbox_head',),
        masks='bbox_head.loss_mask',
        masks_optional=False,
        nano='demo/rtmdet-ins_shapes.py',
        graph='RtmdetGraph',
        mim=('rtmdet-ins', '{}_coco', 'COCO'),
    ),
    'upernet': Recipe(
        configs='upernet_fastervit{}_160k.py',
        kind='labels',
        model='EncoderDecoder',
        parts=_PIXELS,
        nano='demo/upernet_shapes.py',
        min_batch=2,  # its pooling leaves one pixel, and BatchNorm needs two values
        mim=('upernet', '{}_ade20k-512x512', 'ADE20K'),
        section='UPerNet, ADE20K',
    ),
    'fpn': Recipe(
        configs='fpn_fastervit{}_40k.py',
        kind='labels',
        model='EncoderDecoder',
        parts=_PIXELS,
        nano='demo/fpn_shapes.py',
        mim=('fpn', '{}_ade20k-512x512', 'ADE20K'),
        section='Semantic FPN, ADE20K',
    ),
    'mask2former-semantic': Recipe(
        configs='mask2former-semantic_fastervit{}_160k.py',
        kind='labels',
        model='EncoderDecoder',
        parts=_PIXELS,
        nano='demo/mask2former-semantic_shapes.py',
        mim=('mask2former', '{}_ade20k-512x512', 'ADE20K'),
        section='Mask2Former: COCO, ADE20K',
    ),
    'classifier': Recipe(
        configs='classification/imagenet_fastervit{}_300e.py',
        kind='folders',
        model='ImageClassifier',
        parts=('head',),
        nano='classification/imagenet200_nano.py',
        section='Classifiers, ImageNet',
    ),
}


def default_model(kind: str) -> str:
    """Return the model that learns a kind of data unless another is asked for."""
    return models_for(kind)[0]


def models_for(kind: str) -> list[str]:
    """Return the models that learn a kind of data."""
    return [name for name, recipe in RECIPES.items() if recipe.kind == kind]


def parts_with_classes() -> list[str]:
    """Return the paths of all parts of models that have ``num_classes``."""
    return list(dict.fromkeys(part for recipe in RECIPES.values() for part in recipe.parts))


def learns_masks(model: Mapping) -> bool:
    """Return whether the ``model`` of a detector's config learns masks."""
    paths = {recipe.masks for recipe in RECIPES.values() if recipe.masks}
    return any(part_of(model, path) for path in paths)


def graphs() -> dict[str, str]:
    """Return, for each type of detector that can be exported, the name of its graph."""
    return {recipe.model: recipe.graph for recipe in RECIPES.values() if recipe.graph}


def part_of(model: Mapping, path: str) -> object:
    """Return a part of a config's model by its dotted path; None where it has none."""
    part: object = model
    for name in path.split('.'):
        part = part.get(name) if isinstance(part, Mapping) else None
    return part
