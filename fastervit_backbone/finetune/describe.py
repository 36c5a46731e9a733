"""Describe a plan for --dry-run and the head of the config."""

from collections.abc import Mapping

import torch

from ..datasets.channel_statistics import ChannelStatistics
from ..engine.config.load import load_config
from ..engine.config.mixed_precision import amp_options
from ..recipes import learns_masks
from .augmentations import AUGMENTATIONS
from .balance import Balance
from .plan import Plan
from .training_data import TrainingData


def _learns(plan: Plan, data: TrainingData) -> str:
    if data.kind == 'folders':
        return 'the class of an image'
    if data.kind == 'labels':
        return 'label maps'
    if not data.has_masks:
        return 'boxes'
    has_masks = learns_masks(load_config(plan.base).model)
    return 'boxes and masks' if has_masks else 'boxes (this model has no masks)'


def _precision() -> str:
    """Name the mixed precision of this machine."""
    options = amp_options() or {}
    return f'mixed, {options.get("dtype", "bfloat16")}' + ('' if torch.cuda.is_available() else ' on the CPU')


def _balance(balance: Balance) -> str:
    """Tell how often the images of rare classes are shown; the rarest first."""
    factors = sorted(balance.factors.items(), key=lambda item: -item[1])
    more = ', ...' if len(factors) > 8 else ''
    shown = ', '.join(f'{name} x {factor}' for name, factor in factors[:8])
    return f'images of rare classes are repeated, {shown}{more}: {balance.num_images} images an epoch'


def _channels(found: ChannelStatistics) -> str:
    """Tell how many channels there are, and their statistics; of many only the first ones."""
    more = ', ...' if len(found.mean) > 6 else ''
    mean, std = (', '.join(f'{v:.4g}' for v in values[:6]) + more for values in (found.mean, found.std))
    return f'{len(found.mean)}, mean {mean}; std {std} (of {found.images} images); no colors are augmented'


def describe(plan: Plan, data: TrainingData) -> Mapping[str, str]:
    """Describe the plan for ``--dry-run`` and the head of the config, as name -> text."""
    classes = ', '.join(data.classes[:8]) + (', ...' if len(data.classes) > 8 else '')
    empty = f', {data.num_empty} of them without objects, which are kept' if data.num_empty else ''
    if plan.start == 'published' and plan.arch == 'nano':
        start = 'weights of 200 classes of ImageNet (ours)'
    elif plan.start == 'published':
        start = 'published weights (non-commercial license, see NOTICE)'
    elif plan.start == 'nothing':
        start = 'random weights'
    else:
        start = f'{plan.start}, {plan.weights}'
    frozen = 'nothing' if plan.frozen_stages < 0 else f'{plan.frozen_stages} (stages; 0 is only the stem)'
    frozen += f', with adapters of rank {plan.adapters}' if plan.adapters else ''
    ema = 'none (too few steps)' if plan.ema_momentum is None else f'momentum {plan.ema_momentum:g}'
    accumulated = '' if plan.accumulate == 1 else f' x {plan.accumulate} accumulated'
    accumulated += '' if plan.processes == 1 else f' x {plan.processes} processes'
    mirrored = '' if plan.flip or not AUGMENTATIONS[plan.augment].changes else ', not mirrored'
    is_cropped = data.kind != 'coco' and AUGMENTATIONS[plan.augment].changes
    bits = '' if data.pixels.bits is None else f', of {data.pixels.bits} bits in 16'
    return {
        'learns': _learns(plan, data),
        'data': f'{data.num_images} training images{bits}{empty}; {len(data.classes)} classes: {classes}',
        **({} if data.statistics is None else dict(channels=_channels(data.statistics))),
        'size': f'{plan.size[0]}x{plan.size[1]}' + (' crops' if is_cropped else ''),
        'batch': f'{plan.batch_size}{accumulated}, loaded by {plan.num_workers} processes',
        **(dict(balance=_balance(plan.balance)) if plan.balance else {}),
        'augment': plan.augment + mirrored,
        'epochs': f'{plan.epochs}, evaluated every {plan.val_interval}; in the second half, stopped after '
        f'{plan.patience} evaluations without improvement',
        'start': start,
        'frozen': frozen,
        'layer decay': f'{plan.decay_rate:g}',
        'EMA': ema,
        'precision': _precision() if plan.amp else 'float32',
    }
