"""A config against its data and this machine, before anything is built."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from ..backbone import FasterViT
from ..data.coco import HOW_TO_GET_COCO, check_coco
from ..errors import UserError
from .options import find_class


def check_data(config: Config, splits: tuple[str, ...]) -> None:
    """Check every COCO data set that the named dataloaders read.

    Args:
        config: whole config.
        splits: of 'train', 'val', 'test'.

    Raises:
        UserError: something is missing or broken; says which folder is expected and how to get it.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    for split in splits:
        loader = config.get(f'{split}_dataloader')
        if loader is None:
            continue
        for dataset in _leaf_datasets(loader.dataset):
            root = Path(dataset.get('data_root') or '')
            ann_file = dataset.get('ann_file')
            if not str(ann_file).endswith('.json'):
                continue
            remedy = HOW_TO_GET_COCO
            if 'train2017' not in str(ann_file) and 'val2017' not in str(ann_file):
                remedy = f'{split}_dataloader.dataset.data_root is {str(root)!r}, ann_file {ann_file!r}: correct them or put the data there'
                if 'circle' in (_classes(dataset) or ()):
                    remedy = 'make it: python tools/make_shapes.py work_dirs/demo/data'
            image_dir = root / (dataset.get('data_prefix') or {}).get('img', '')
            drops_empty = bool((dataset.get('filter_cfg') or {}).get('filter_empty_gt')) and not dataset.get('test_mode')
            masks = any(t.get('with_mask') for t in dataset.get('pipeline') or () if isinstance(t, Mapping))
            check_coco(root / ann_file, image_dir, _classes(dataset), need_objects=drops_empty, need_masks=masks, remedy=remedy)
            if split != 'train' and dataset is loader.dataset:
                _check_evaluator(config, split, root / ann_file)


def _check_evaluator(config: Config, split: str, ann_file: Path) -> None:
    for evaluator in _as_list(config.get(f'{split}_evaluator')):
        other = evaluator.get('ann_file')
        if other and os.path.realpath(other) != os.path.realpath(ann_file):
            raise UserError(f'{split}_evaluator.ann_file is {other}, but the {split} data set has {ann_file}: make them the same')


def fit_classes(config: Config, split: str) -> list[str]:
    """Give the detection heads as many classes as the data set has, and no palette shorter than that.

    Args:
        config: changed in place: ``num_classes`` of ``roi_head.bbox_head``, ``roi_head.mask_head`` and ``bbox_head``.
        split: whose data set counts, 'train' or 'test'.

    Returns:
        a line if the heads were changed.

    Raises:
        UserError: training and validation data have other classes.
    """
    loader = config.get(f'{split}_dataloader')
    classes = None if loader is None else _classes(next(_leaf_datasets(loader.dataset)))
    if not classes:
        return []
    for other in ('train', 'val') if split == 'train' else (split,):
        for dataset in _leaf_datasets(config[f'{other}_dataloader'].dataset) if config.get(f'{other}_dataloader') else ():
            if _classes(dataset) != classes:
                raise UserError(
                    f'the train data has the classes {classes}, the {other} data {_classes(dataset)}: give both the same metainfo'
                )
            _fit_palette(dataset, len(classes))
    roi_head = config.model.get('roi_head') or {}
    heads = [h for part in (roi_head.get('bbox_head'), roi_head.get('mask_head'), config.model.get('bbox_head')) for h in _as_list(part)]
    wrong = [h for h in heads if h.get('num_classes', len(classes)) != len(classes)]
    before = sorted({h.num_classes for h in wrong})
    for head in wrong:
        head.num_classes = len(classes)
    return [f'num_classes {", ".join(map(str, before))} -> {len(classes)} in {len(wrong)} heads, as the data set has'] if wrong else []


def _fit_palette(dataset: ConfigDict, count: int) -> None:
    """A base's palette is merged into new metainfo, and mmdet refuses to draw with one that is too short."""
    metainfo = dataset.get('metainfo') or {}
    palette = metainfo.get('palette') or getattr(find_class(dataset['type']), 'METAINFO', {}).get('palette')
    if palette is not None and not isinstance(palette, str) and len(palette) < count:
        dataset.metainfo = dict(metainfo, palette='random')


def check_channels(config: Config) -> None:
    """Raise UserError where a FasterViT's channels are not what the neck (or a list-taking decode head) expects."""
    if not isinstance(config.get('model'), Mapping) or 'type' not in config.model:
        raise UserError(f'{config.filename} has no model=dict(type=...): is it a whole config?')
    backbone = config.model.get('backbone') or {}
    if backbone.get('type') != 'FasterViT':
        return
    arguments = {k: v for k, v in backbone.items() if k not in ('type', '_scope_')}
    try:
        with torch.device('meta'):
            channels = list(FasterViT(**arguments).out_channels)
    except (TypeError, ValueError) as error:
        raise UserError(f'model.backbone: {error}') from error
    name = 'neck' if config.model.get('neck') else 'decode_head'
    expected = (config.model.get(name) or {}).get('in_channels')
    if isinstance(expected, list | tuple) and list(expected) != channels:
        raise UserError(
            f'model.{name}.in_channels is {list(expected)}, but FasterViT {backbone.arch!r} gives {channels}: '
            f'--cfg-options model.{name}.in_channels="{str(channels).replace(" ", "")}"'
        )


def fit_to_machine(config: Config, launcher: str) -> list[str]:
    """Change what cannot run here: nccl without a GPU, SyncBN in a single process or on a CPU.

    Args:
        config: changed in place.
        launcher: as of the tools.

    Returns:
        a line for every change.
    """
    said = []
    cuda, processes = torch.cuda.is_available(), world_size(launcher)
    if launcher != 'none' and not cuda:
        if launcher != 'pytorch':
            raise UserError(f'--launcher {launcher} needs CUDA devices, and torch sees none here: use torchrun and --launcher pytorch')
        config.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict())['backend'] = 'gloo'
        unused = config.get('find_unused_parameters', False)
        # mmengine's own choice passes device_ids, which CPU modules refuse
        wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False, find_unused_parameters=unused)
        config.setdefault('model_wrapper_cfg', wrapper)
    if processes == 1 or not cuda:
        count = sum(_replace_sync_bn(node) for node in _dicts(config.model))
        if count:
            where = 'on the CPU' if not cuda else 'in a single process'
            said.append(f'{count} SyncBN run as BN {where}: statistics are those of one process')
    return said


def world_size(launcher: str) -> int:
    """Processes of this run, from the launcher's environment."""
    name = {'none': '', 'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}[launcher]
    if name and name not in os.environ:
        raise UserError(f'--launcher {launcher} needs the variable {name}, which is not set: start through that launcher')
    return int(os.environ[name]) if name else 1


def _replace_sync_bn(node: dict) -> bool:
    if node.get('type') == 'SyncBN':
        node['type'] = 'BN'
        return True
    return False


def _dicts(node: object) -> Iterator[dict]:
    if isinstance(node, Mapping):
        yield node
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ()
    for child in children:
        yield from _dicts(child)


def _leaf_datasets(dataset: Mapping) -> Iterator[Mapping]:
    """The data sets within wrappers (repeat, concat, class-balanced, multi-image mix)."""
    inner = dataset.get('dataset', dataset.get('datasets'))
    if inner is None:
        yield dataset
    else:
        for child in inner if isinstance(inner, list | tuple) else [inner]:
            yield from _leaf_datasets(child)


def _as_list(part: object) -> list:
    return [] if part is None else list(part) if isinstance(part, list | tuple) else [part]


def _classes(dataset: Mapping) -> list[str] | None:
    """Class names: the config's, else the data set class's own."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = getattr(find_class(dataset['type']), 'METAINFO', {}).get('classes')
    if isinstance(classes, str):  # a file, one name a line: mmengine takes that too
        if not Path(classes).is_file():
            raise UserError(f'metainfo.classes={classes!r} names no file: give a list of names, or a file with one name a line')
        return Path(classes).read_text().splitlines()
    return None if classes is None else list(classes)
