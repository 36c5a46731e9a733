"""A config against its classes and this machine, before anything is built."""

import colorsys
from collections.abc import Iterator, Mapping

import torch
from mmengine.config import Config, ConfigDict

from ...models.fastervit import FasterViT
from ...utils.errors import UserError
from ..processes import world_size
from ..timm_backbone import TimmBackbone
from .load import arguments_of, find_class
from .validate import as_list, classes_of, is_semantic, leaf_datasets

#: Backbones that say what they give.
_DECLARING = {'FasterViT': FasterViT, 'TimmBackbone': TimmBackbone}


def fit_classes(config: Config, split: str) -> list[str]:
    """Give the heads as many classes as the data set has, and the data sets a palette of that length.

    Args:
        config: changed in place: ``num_classes`` of ``roi_head.{bbox,mask}_head``, ``bbox_head``, ``decode_head``, ``auxiliary_head``.
        split: whose data set counts, 'train' or 'test'.

    Returns:
        a line if the heads were changed.

    Raises:
        UserError: training and validation data have other classes.
    """
    loader = config.get(f'{split}_dataloader')
    classes = None if loader is None else classes_of(next(leaf_datasets(loader.dataset)))
    if not classes:
        return []
    for other in ('train', 'val') if split == 'train' else (split,):
        for dataset in (
            leaf_datasets(config[f'{other}_dataloader'].dataset) if config.get(f'{other}_dataloader') else ()
        ):
            if classes_of(dataset) != classes:
                raise UserError(
                    f'the train data has the classes {classes}, the {other} data {classes_of(dataset)}: give both the same metainfo'
                )
            _fit_palette(dataset, len(classes))
    return fit_heads(config, len(classes))


def fit_heads(config: Config, count: int) -> list[str]:
    """Give every head ``count`` classes, in place; returns a line if heads were changed.

    Raises:
        UserError: a loss has weights for another number of classes.
    """
    heads = dict(_heads(config.model))
    wrong = [h for h in heads.values() if h.get('num_classes', count) != count]
    _check_class_weights(heads, count)
    before = sorted({h.num_classes for h in wrong})
    for head in wrong:
        head.num_classes = count
    return (
        [f'num_classes {", ".join(map(str, before))} -> {count} in {len(wrong)} heads, as the data set has']
        if wrong
        else []
    )


def _heads(model: Mapping) -> Iterator[tuple[str, ConfigDict]]:
    """(path in the config, head) of every head that has classes."""
    roi_head = model.get('roi_head') or {}
    parts = {f'model.roi_head.{name}': roi_head.get(name) for name in ('bbox_head', 'mask_head')}
    parts |= {f'model.{name}': model.get(name) for name in ('bbox_head', 'decode_head', 'auxiliary_head')}
    for path, part in parts.items():
        yield from _numbered(path, part)


def _numbered(path: str, part: object) -> list[tuple[str, ConfigDict]]:
    """A config's dict, or the dicts of its list, with their paths."""
    if isinstance(part, list | tuple):
        return [(f'{path}.{i}', one) for i, one in enumerate(part)]
    return [] if part is None else [(path, part)]


def _check_class_weights(heads: Mapping[str, Mapping], count: int) -> None:
    for path, head in heads.items():
        for loss_path, loss in _numbered(f'{path}.loss_decode', head.get('loss_decode')):
            weights = loss.get('class_weight')
            if isinstance(weights, list | tuple) and len(weights) != count:
                raise UserError(
                    f'{loss_path}.class_weight has {len(weights)} numbers, the data set {count} classes: give one for each, or none: '
                    f'--cfg-options {loss_path}.class_weight=None'
                )


def _fit_palette(dataset: ConfigDict, count: int) -> None:
    """A base's palette is merged into new metainfo: mmdet draws with none that is too short, mmseg takes none of another length."""
    metainfo = dataset.get('metainfo') or {}
    palette = metainfo.get('palette') or getattr(find_class(dataset['type']), 'METAINFO', {}).get('palette')
    if is_semantic(dataset):
        if palette is None or (metainfo.get('palette') and len(palette) != count):
            dataset.metainfo = dict(
                metainfo, palette=distinct_colours(count)
            )  # mmseg's own are random, some alike
        return
    if palette is not None and not isinstance(palette, str) and len(palette) < count:
        dataset.metainfo = dict(metainfo, palette='random')


def distinct_colours(count: int) -> list[list[int]]:
    """RGB colours, 0..255: hues a golden section apart, so that neighbours in the list differ most, in three brightnesses."""
    return [
        [
            round(255 * v)
            for v in colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.55 + 0.4 * (i % 2), (1, 0.8, 0.55)[i // 8 % 3])
        ]
        for i in range(count)
    ]


def fit_label_loading(config: Config) -> list[str]:
    """Let every ``LoadAnnotations`` treat label 0 as its data set says; mmseg stops at a difference, with a traceback.

    Args:
        config: changed in place.

    Returns:
        a line for every change.
    """
    said = []
    for split in ('train', 'val', 'test'):
        loader = config.get(f'{split}_dataloader')
        for dataset in () if loader is None else leaf_datasets(loader.dataset):
            if not is_semantic(dataset):
                continue
            wanted = dataset.get(
                'reduce_zero_label', arguments_of(find_class(dataset['type'])).get('reduce_zero_label', False)
            )
            for transform in dataset.get('pipeline') or ():
                if transform.get('reduce_zero_label') not in (None, wanted):
                    transform.reduce_zero_label = wanted
                    said.append(f'{split} pipeline: reduce_zero_label is {wanted}, as the data set has')
    return said


def check_batch(config: Config) -> None:
    """Raise UserError where BatchNorm would see a single value: UPerNet pools a map to one pixel, and one image has one of those."""
    alone = config.train_dataloader.get('batch_size') == 1
    heads = as_list(config.model.get('decode_head'))
    if alone and any(
        h.get('type') == 'UPerHead' and (h.get('norm_cfg') or {}).get('type') == 'BN' for h in heads
    ):
        raise UserError(
            'UPerHead pools to a single pixel, and BatchNorm needs two: train_dataloader.batch_size=2 or more, or '
            '--cfg-options model.decode_head.norm_cfg.type=GN model.decode_head.norm_cfg.num_groups=32'
        )


def check_model(config: Config) -> None:
    """Raise UserError where a config has no model."""
    if not isinstance(config.get('model'), Mapping) or 'type' not in config.model:
        raise UserError(f'{config.filename} has no model=dict(type=...): is it a whole config?')


def fit_norm_eval(config: Config) -> list[str]:
    """Let BatchNorm learn its statistics where a backbone starts from nothing: fresh ones, mean 0 and variance 1, normalise nothing.

    Args:
        config: changed in place.

    Returns:
        a line if that was changed.
    """
    backbone = config.model.get('backbone') or {}
    parts = (backbone, config.model)
    starts = config.get('load_from') or any(
        part.get(key) for part in parts for key in ('init_cfg', 'pretrained')
    )
    if starts or not backbone.get('norm_eval'):
        return []
    backbone.norm_eval = False
    return [
        'model.backbone.norm_eval True -> False: without weights to start from, BatchNorm has to learn its statistics'
    ]


def check_channels(config: Config) -> None:
    """Raise UserError where the backbone's channels are not what the neck, decode head or auxiliary head expects."""
    check_model(config)
    backbone = config.model.get('backbone') or {}
    if backbone.get('type') not in _DECLARING:
        return
    arguments = {k: v for k, v in backbone.items() if k not in ('type', '_scope_')}
    try:
        with torch.device('meta'):
            channels = list(_DECLARING[backbone.type](**arguments).out_channels)
    except (IndexError, TypeError, ValueError) as error:
        raise UserError(f'model.backbone: {error}') from error
    readers = ('neck',) if config.model.get('neck') else ('decode_head', 'auxiliary_head')
    for name, head in [
        (reader, head)
        for reader in readers
        for head in as_list(config.model.get(reader))[: 1 if reader == 'neck' else None]
    ]:
        expected = head.get('in_channels')
        if name != 'neck':
            index = head.get('in_index', -1)  # mmseg's default
            given = [channels[i] for i in index] if isinstance(index, list | tuple) else channels[index]
        else:
            given = channels
        if (
            expected is not None
            and (list(expected) if isinstance(expected, list | tuple) else expected) != given
        ):
            name_of = f'{backbone.type} {backbone.get("arch", backbone.get("model_name"))!r}'
            raise UserError(
                f'model.{name}.in_channels is {expected}, but {name_of} gives {given}: '
                f'--cfg-options model.{name}.in_channels="{str(given).replace(" ", "")}"'
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
            raise UserError(
                f'--launcher {launcher} needs CUDA devices, and torch sees none here: use torchrun and --launcher pytorch'
            )
        config.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict())['backend'] = 'gloo'
        unused = config.get('find_unused_parameters', False)
        # mmengine's own choice passes device_ids, which CPU modules refuse
        wrapper = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=unused,
        )
        config.setdefault('model_wrapper_cfg', wrapper)
    if processes == 1 or not cuda:
        count = sum(_replace_sync_bn(node) for node in _dicts(config.model))
        if count:
            where = 'on the CPU' if not cuda else 'in a single process'
            said.append(f'{count} SyncBN run as BN {where}: statistics are those of one process')
    return said


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
