"""Check that a config's neck and heads expect the channels that its backbone emits."""

from collections.abc import Mapping

import torch
from mmengine.config import Config

from ...models.fastervit import FasterViT
from ...utils.errors import UserError
from ..timm_backbone import TimmBackbone
from .reading import as_list

#: Backbones that declare ``out_channels``.
_DECLARING = {'FasterViT': FasterViT, 'TimmBackbone': TimmBackbone}


def check_model(config: Config) -> None:
    """Raise UserError if a config has no model."""
    if not isinstance(config.get('model'), Mapping) or 'type' not in config.model:
        raise UserError(f'{config.filename} has no model=dict(type=...): is it a complete config?')


def check_channels(config: Config) -> None:
    """Raise UserError unless the neck, or without one the heads, expect the channels of the backbone."""
    check_model(config)
    backbone = config.model.get('backbone') or {}
    if backbone.get('type') not in _DECLARING:
        return
    channels = _out_channels(backbone)
    if config.model.get('head'):
        _check_reader('head', config.model.head, channels[-1], backbone)
    elif config.model.get('neck'):
        _check_reader('neck', as_list(config.model.neck)[0], channels, backbone)
    else:
        _check_segmentation_heads(config, channels, backbone)


def _check_segmentation_heads(config: Config, channels: list[int], backbone: Mapping) -> None:
    for name in ('decode_head', 'auxiliary_head', 'panoptic_head'):
        for head in as_list(config.model.get(name)):
            reads_all = name == 'panoptic_head' or head.get('type') == 'Mask2FormerHead'
            index = list(range(len(channels))) if reads_all else head.get('in_index', -1)  # mmseg's default
            is_single = not isinstance(index, list | tuple)
            given = channels[index] if is_single else [channels[i] for i in index]
            _check_reader(name, head, given, backbone)


def _out_channels(backbone: Mapping) -> list[int]:
    arguments = {k: v for k, v in backbone.items() if k not in ('type', '_scope_')}
    try:
        with torch.device('meta'):
            return list(_DECLARING[backbone['type']](**arguments).out_channels)
    except (IndexError, TypeError, ValueError) as error:
        raise UserError(f'model.backbone: {error}') from error


def _check_reader(name: str, reader: Mapping, given: int | list[int], backbone: Mapping) -> None:
    expected = reader.get('in_channels')
    if isinstance(expected, tuple):
        expected = list(expected)
    if expected is not None and expected != given:
        arch = backbone.get('arch', backbone.get('model_name'))
        raise UserError(
            f'model.{name}.in_channels is {expected}, but {backbone["type"]} {arch!r} gives {given}: '
            f'--cfg-options model.{name}.in_channels="{str(given).replace(" ", "")}"'
        )
