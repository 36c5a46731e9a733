"""Check the data sets of a config before anything is built."""

import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ...datasets.class_folders import list_images
from ...datasets.coco import read_coco
from ...datasets.download_hints import HOW_TO_GET_ADE, HOW_TO_GET_COCO
from ...datasets.panoptic import check_panoptic
from ...datasets.validation.before_training import check_coco, check_label_maps, check_voc
from ...utils.errors import UserError
from .lookup import find_class
from .reading import (
    as_list,
    classes_of,
    folder_classes,
    image_root,
    is_a,
    is_image_folder,
    is_panoptic,
    is_semantic,
    leaf_datasets,
    pixel_format,
)

_MAKE_SHAPES = 'make it: fastervit make-shapes work_dirs/demo/data'


def check_data(config: Config, splits: tuple[str, ...]) -> list[str]:
    """Check every COCO, VOC, label-map and image-folder data set that the named dataloaders read.

    Args:
        config: whole config.
        splits: of 'train', 'val', 'test'.

    Returns:
        lines for the log.

    Raises:
        UserError: a file is missing or breaks a rule; names the expected folder and how to get the data.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    messages = []
    for split in splits:
        loader = config.get(f'{split}_dataloader')
        if loader is None:
            continue
        for dataset in leaf_datasets(loader.dataset):
            if is_semantic(dataset):
                messages.append(_check_semantic(dataset))
            elif is_image_folder(dataset):
                list_images(image_root(dataset), folder_classes(dataset)[0])
            elif str(dataset.get('ann_file')).endswith('.json'):
                (_check_panoptic if is_panoptic(dataset) else _check_coco)(dataset, split)
                if split != 'train' and dataset is loader.dataset:
                    ann_file = Path(dataset.get('data_root') or '') / dataset.ann_file
                    _check_evaluator(config, split, ann_file, is_panoptic(dataset))
            elif is_a(dataset, 'XMLDataset'):
                year = (dataset.get('data_prefix') or {}).get('sub_data_root', '')
                ann_file = dataset.get('ann_file') or ''
                check_voc(dataset.get('data_root') or '', ann_file, year, classes_of(dataset))
    return [line for line in messages if line]


def replace_test_data(config: Config, folder: str) -> None:
    """Evaluate a classifier on the class folders in ``folder``, which may be only some of its classes.

    Raises:
        UserError: the config is no classifier's.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    dataset = (config.get('test_dataloader') or {}).get('dataset')
    if dataset is None or not is_image_folder(dataset):
        raise UserError(f'--data {folder}: {config.filename} has no test data in one folder per class')
    dataset.update(data_root=folder, data_prefix='', subset=True)


def _how_to_get(dataset: Mapping, split: str) -> str:
    ann_file = dataset['ann_file']
    if 'circle' in (classes_of(dataset) or ()):
        return _MAKE_SHAPES
    if 'train2017' in str(ann_file) or 'val2017' in str(ann_file):
        return HOW_TO_GET_COCO
    return (
        f'{split}_dataloader.dataset.data_root is {str(dataset.get("data_root") or "")!r}, '
        f'ann_file {ann_file!r}: correct them or put the data there'
    )


def _check_panoptic(dataset: Mapping, split: str) -> None:
    root, prefix = Path(dataset.get('data_root') or ''), dataset.get('data_prefix') or {}
    folders = [root / (prefix.get(name) or '') for name in ('seg', 'img')]
    metainfo = dataset.get('metainfo') or find_class(dataset['type']).METAINFO
    things, remedy = metainfo.get('thing_classes'), _how_to_get(dataset, split)
    check_panoptic(root / dataset['ann_file'], *folders, classes_of(dataset), things, remedy)


def _check_coco(dataset: Mapping, split: str) -> None:
    root, ann_file = Path(dataset.get('data_root') or ''), dataset.ann_file
    classes, remedy = classes_of(dataset), _how_to_get(dataset, split)
    image_dir = root / (dataset.get('data_prefix') or {}).get('img', '')
    drops_empty = bool((dataset.get('filter_cfg') or {}).get('filter_empty_gt')) and not dataset.get(
        'test_mode'
    )
    masks = any(t.get('with_mask') for t in dataset.get('pipeline') or () if isinstance(t, Mapping))
    pixels = pixel_format(dataset.get('pipeline'))
    options = dict(need_objects=drops_empty, need_masks=masks, remedy=remedy, pixels=pixels)
    check_coco(root / ann_file, image_dir, classes, **options)


def _check_semantic(dataset: Mapping) -> str | None:
    place = f'{dataset["type"]} at {dataset.get("data_root")!r}'
    classes = classes_of(dataset)
    if not classes:
        raise UserError(f'{place} has no metainfo.classes: name the labels 0, 1, ... in order')
    prefix = dataset.get('data_prefix') or {}
    if set(prefix) != {'img_path', 'seg_map_path'}:
        raise UserError(
            f'{dataset["type"]}: data_prefix must name the two folders img_path and seg_map_path, got '
            f'{dict(prefix)}'
        )
    arguments = {k: v for k, v in dataset.items() if k not in ('type', '_scope_', 'pipeline')}
    # the palette's length is adapted later
    metainfo = {k: v for k, v in (dataset.get('metainfo') or {}).items() if k != 'palette'}
    try:
        listing = find_class(dataset['type'])(
            **{**arguments, 'metainfo': metainfo, 'lazy_init': True, 'pipeline': []}
        )
    except (AssertionError, OSError, TypeError, ValueError) as error:
        raise UserError(f'{place}: {error or "its files do not exist"}') from error
    remedy = f'data_root is {dataset.get("data_root")!r}: correct it or put the data there'
    if 'ADE20K' in str(dataset['type']):
        remedy = HOW_TO_GET_ADE
    elif 'circle' in classes:
        remedy = _MAKE_SHAPES
    for folder in (listing.data_prefix['img_path'], listing.data_prefix['seg_map_path']):
        if not os.path.isdir(folder):
            raise UserError(f'no folder at {os.path.abspath(folder)}: {remedy}')
    try:
        pairs = [(item['img_path'], item['seg_map_path']) for item in listing.load_data_list()]
    except (AssertionError, OSError) as error:
        raise UserError(f'{place}: {error}') from error
    if not pairs:
        folder = os.path.abspath(listing.data_prefix['img_path'])
        raise UserError(
            f'{folder} has no image that ends in {listing.img_suffix!r}: set img_suffix, or {remedy}'
        )
    pixels = pixel_format(dataset.get('pipeline'))
    options = dict(reduce_zero_label=listing.reduce_zero_label, label_map=listing.label_map, pixels=pixels)
    return check_label_maps(pairs, classes, **options)


def _check_evaluator(config: Config, split: str, ann_file: Path, reads_panoptic: bool) -> None:
    dataset = config[f'{split}_dataloader'].dataset
    for evaluator in as_list(config.get(f'{split}_evaluator')):
        evaluated = evaluator.get('ann_file')
        if reads_panoptic and evaluated and 'Panoptic' not in str(evaluator.get('type')):
            _check_order(Path(evaluated), classes_of(dataset))
        if reads_panoptic != ('Panoptic' in str(evaluator.get('type'))):
            continue  # boxes and masks of a panoptic model are scored against instances_*.json
        if evaluated and os.path.realpath(evaluated) != os.path.realpath(ann_file):
            raise UserError(
                f'{split}_evaluator.ann_file is {evaluated}, but the {split} data set has {ann_file}: make '
                'them the same'
            )


def _check_order(ann_file: Path, classes: list[str] | None) -> None:
    """Raise UserError unless a json of objects lists its classes in the order of the panoptic data's."""
    if not ann_file.is_file():
        raise UserError(f'no annotations at {ann_file}: correct the evaluator, or leave it out')
    names = [c['name'] for c in read_coco(ann_file)['categories'] if c.get('name') in (classes or ())]
    if names != [name for name in classes or () if name in names]:
        raise UserError(
            f'{ann_file}: its categories are in another order than metainfo.classes, and mmdet would score '
            'one class as another: sort them'
        )


def check_batch(config: Config) -> None:
    """Raise UserError if BatchNorm would see one value per channel: UPerHead pools an image to one pixel."""
    if config.train_dataloader.get('batch_size') != 1:
        return
    for head in as_list(config.model.get('decode_head')):
        if head.get('type') == 'UPerHead' and (head.get('norm_cfg') or {}).get('type') == 'BN':
            raise UserError(
                'UPerHead pools to a single pixel, and BatchNorm needs two: train_dataloader.batch_size=2 or '
                'more, or --cfg-options model.decode_head.norm_cfg.type=GN '
                'model.decode_head.norm_cfg.num_groups=32'
            )
