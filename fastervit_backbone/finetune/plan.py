"""Decide what to train and how, from the data, the machine and a preset."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ..engine.config.load import load_config
from ..engine.config.mixed_precision import amp_options
from ..models.arch import NUM_STAGES
from ..recipes import RECIPES, models_for
from ..utils.errors import UserError
from ..utils.places import configs_folder
from .augmentations import AUGMENTATIONS
from .balance import Balance, balance
from .memory import choose_batch
from .training_data import TrainingData

_WORDS = {'coco': 'COCO jsons', 'labels': 'label-map folders', 'folders': 'folders of class folders'}

#: Learning rate of a layer over that of the next one, with few images.
_DECAY_RATE = 0.85
#: Below these numbers of training images, pretrained stem and first stage, or only the stem, are frozen.
_FREEZE_STAGE_1_BELOW, _FREEZE_STEM_BELOW = 1000, 5000
#: Rank of the matrices of ``--tune adapters``.
ADAPTERS = 8
#: With fewer steps, an average of the weights would still be near the initial ones.
_MIN_STEPS_FOR_EMA = 200


@dataclass(frozen=True)
class Preset:
    """Length of a training.

    Attributes:
        min_epochs: train at least this long.
        min_steps: and at least this long.
        patience: in the second half, stop after this many evaluations without improvement.
    """

    min_epochs: int
    min_steps: int
    patience: int


PRESETS = {
    'quick': Preset(min_epochs=12, min_steps=400, patience=3),
    'standard': Preset(min_epochs=36, min_steps=3000, patience=4),
    'long': Preset(min_epochs=100, min_steps=12000, patience=4),
}


@dataclass(frozen=True)
class Plan:
    """All decisions for a training.

    Attributes:
        base: config that provides model, optimizer and runtime.
        arch: of FasterViT.
        size: (height, width) that images are resized to fit ('coco'), or of crops.
        batch_size: images per process.
        num_workers: data loading processes.
        epochs: maximum.
        val_interval: epochs between evaluations.
        patience: in the second half, stop after this many evaluations without improvement.
        frozen_stages: of the backbone; -1 for none.
        adapters: their rank; 0 for none.
        decay_rate: of the learning rate, layer by layer towards the image; 1 for none.
        ema_momentum: of the average of the weights; None for no average.
        amp: whether to train in mixed precision.
        start: 'published' (of nano: those of this package), 'nothing', 'backbone' or 'model'.
        weights: checkpoint for 'backbone' and 'model'.
        augment: strength of the augmentation: 'none', 'light' or 'strong'.
        flip: whether it mirrors images.
        accumulate: batches per optimizer step.
        processes: of the run.
        balance: repeats of images with rare classes; None for none.
        steps: batches of an epoch; except for objects the last, smaller batch is dropped.
        reasons: lines that explain the decisions.
    """

    base: Path
    arch: str
    size: tuple[int, int]
    batch_size: int
    num_workers: int
    epochs: int
    val_interval: int
    patience: int
    frozen_stages: int
    adapters: int
    decay_rate: float
    ema_momentum: float | None
    amp: bool
    start: str
    weights: Path | None
    augment: str
    flip: bool
    accumulate: int
    processes: int
    balance: Balance | None
    steps: int
    reasons: tuple[str, ...]


def find_base(model: str, arch: str) -> Path:
    """Return the config of a model with an arch.

    Raises:
        UserError: no such config; lists the archs that the model has.
    """
    recipe = RECIPES[model]
    name = recipe.nano if arch == 'nano' else recipe.configs.format(arch)
    configs = configs_folder()
    if name and (configs / name).is_file():
        return configs / name
    supported = [a for a in ('0', '1', '2', '3', '4') if (configs / recipe.configs.format(a)).is_file()]
    supported += ['nano'] if recipe.nano else []
    raise UserError(f'--model {model} --arch {arch}: {model} supports --arch {", ".join(supported)}')


def make_plan(
    data: TrainingData,
    *,
    model: str,
    arch: str,
    preset: str = 'standard',
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    start: str = 'published',
    weights: Path | None = None,
    tune: str | None = None,
    amp: bool = True,
    augment: str = 'light',
    flip: bool = True,
    balanced: bool = False,
    accumulate: int = 1,
    processes: int = 1,
) -> Plan:
    """Decide everything that is not given.

    Arguments are those of :func:`~fastervit_backbone.finetune.finetune`, ``balanced`` its ``balance``,
    ``start`` and ``weights`` of Plan.

    Raises:
        UserError: arguments that do not fit the data or each other.
    """
    _check_model(model, data)
    _check_counts(accumulate=accumulate, epochs=epochs)
    base = find_base(model, arch)
    size = size or _choose_size(data, arch)
    reasons: list[str] = []
    if arch != 'nano' and not torch.cuda.is_available():
        reasons.append(f'--arch {arch} is for a GPU, which torch does not find: --arch nano is for a CPU')

    if batch is None:
        change = AUGMENTATIONS[augment]  # what is cropped afterwards is not enlarged
        enlarged = change.scale[1] if data.kind == 'coco' and not change.crops_objects else 1.0
        memory = dict(amp=amp, kind=data.kind, enlarged=enlarged, processes=processes)
        batch, reason = choose_batch(arch, size, RECIPES[model].min_batch, **memory)
        reasons.append(reason)
    batch = _fit_batch(batch, data.num_images, model, processes)
    repeated = balance(data.image_classes, data.classes) if balanced else None
    if balanced and repeated is None:
        reasons.append('--balance: no class is in far fewer images than the others, no image is repeated')
    shown = repeated.num_images if repeated else data.num_images
    steps = _steps_per_epoch(data.kind, shown, batch * processes)
    if epochs is None:
        epochs = _choose_epochs(preset, steps, accumulate, reasons)

    frozen_stages, decay_rate = _choose_frozen(data, base, start, tune, reasons)
    return Plan(
        base=base,
        arch=arch,
        size=size,
        batch_size=batch,
        num_workers=max(0, min(8, (os.cpu_count() or 1) // processes - 1)),
        epochs=epochs,
        val_interval=max(1, epochs // 12),
        patience=PRESETS[preset].patience,
        frozen_stages=frozen_stages,
        adapters=ADAPTERS if tune == 'adapters' else 0,
        decay_rate=decay_rate,
        ema_momentum=_choose_ema_momentum(epochs * steps // accumulate),
        amp=amp and amp_options() is not None,
        start=start,
        weights=weights,
        augment=augment,
        flip=flip,
        accumulate=accumulate,
        processes=processes,
        balance=repeated,
        steps=steps,
        reasons=tuple(reasons),
    )


def _steps_per_epoch(kind: str, num_images: int, batch_size: int) -> int:
    return math.ceil(num_images / batch_size) if kind == 'coco' else max(1, num_images // batch_size)


def _fit_batch(batch: int, num_images: int, model: str, processes: int) -> int:
    """Limit the batch to the images there are; raise UserError if the model needs more."""
    least = RECIPES[model].min_batch
    if min(batch, num_images) < least:
        raise UserError(f'--batch {batch} of {num_images} images: {model} needs at least {least}')
    return min(batch, max(least, num_images // processes))


def _choose_epochs(preset: str, steps: int, accumulate: int, reasons: list[str]) -> int:
    """Choose the length; adds the reason."""
    length = PRESETS[preset]
    epochs = max(length.min_epochs, math.ceil(length.min_steps * accumulate / steps))
    each = f'{steps} steps' if accumulate == 1 else f'{steps} batches, {accumulate} a step'
    reasons.append(
        f'{epochs} epochs of {each}: preset {preset}, at least {length.min_epochs} epochs '
        f'and {length.min_steps} steps'
    )
    return epochs


def _choose_frozen(
    data: TrainingData, base: Path, start: str, tune: str | None, reasons: list[str]
) -> tuple[int, float]:
    """Choose the frozen stages of pretrained weights and the layer decay rate; adds the reason.

    Raises:
        UserError: random weights that would stay.
    """
    if tune in ('heads', 'adapters'):
        if start == 'nothing':
            raise UserError(f'--tune {tune} --start nothing: a frozen backbone needs trained weights')
        learns = f', adapters of rank {ADAPTERS} beside its attention learn' if tune == 'adapters' else ''
        adapted = '' if data.statistics is None else ', its stem as adapted to the channels'
        reasons.append(f'--tune {tune}: the backbone is frozen{adapted}{learns}')
        return NUM_STAGES, 1.0
    num_images = data.num_images
    if start == 'nothing' or num_images >= _FREEZE_STEM_BELOW:
        return -1, 1.0
    is_other_stem = data.statistics is not None
    if tune == 'all' or is_other_stem:
        rate, slower = _layer_decay(base)
        why = '--tune all' if tune == 'all' else 'the stem learns other channels than its weights had'
        reasons.append(f'{why}: nothing is frozen{slower}')
        return -1, rate
    freeze_stage_1 = num_images < _FREEZE_STAGE_1_BELOW
    stages, frozen = (1, 'stem and first stage are') if freeze_stage_1 else (0, 'the stem is')
    rate, slower = _layer_decay(base)
    reasons.append(f'{num_images} training images: {frozen} frozen{slower}')
    return stages, rate


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UserError(f'--{name} {value}: must be at least 1')


def _check_model(model: str, data: TrainingData) -> None:
    recipe = RECIPES[model]
    if recipe.kind != data.kind:
        fitting = ' or '.join(models_for(data.kind))
        raise UserError(
            f'--model {model} learns from {_WORDS[recipe.kind]}, not from {data.train}: use {fitting}'
        )
    if not recipe.masks_optional and not data.has_masks:
        raise UserError(
            f'--model {model} learns masks, but some objects in {data.train} or {data.val} have none: '
            'use --model cascade or dino'
        )


def _choose_size(data: TrainingData, arch: str) -> tuple[int, int]:
    """Fit the median image into the paper's training size, in multiples of 32; nano gets half of it.

    A classifier's images are enlarged to at least 64: with less, its last maps have a single pixel.
    """
    if data.kind == 'folders':
        side = min(128 if arch == 'nano' else 224, max(64, round(min(data.median_size) / 32) * 32))
        return side, side
    max_short, max_long = (512, 512) if data.kind == 'labels' else (800, 1333)
    if arch == 'nano':
        max_short, max_long = max_short // 2, max_long // 2
    height, width = data.median_size
    scale = min(1.0, max_short / min(height, width), max_long / max(height, width))
    height, width = (max(64, round(side * scale / 32) * 32) for side in (height, width))
    return height, width


def _choose_ema_momentum(num_steps: int) -> float | None:
    """Average over about a twentieth of the training, within what is usual; None for a short training."""
    return min(0.05, max(2e-4, 20 / num_steps)) if num_steps >= _MIN_STEPS_FOR_EMA else None


def _layer_decay(base: Path) -> tuple[float, str]:
    """Return the layer decay rate, 1 if the base's optimizer has none (as DINO's), and a clause on it."""
    optimizer = load_config(base).optim_wrapper
    if optimizer.get('constructor') == 'LayerDecayOptimWrapperConstructor':
        return _DECAY_RATE, f', early layers learn slower (factor {_DECAY_RATE} per layer)'
    custom_keys = (optimizer.get('paramwise_cfg') or {}).get('custom_keys') or {}
    lr_mult = (custom_keys.get('backbone') or {}).get('lr_mult', 1)
    if lr_mult == 1:
        return 1.0, ''
    return 1.0, f', the backbone learns at {lr_mult:g} of the learning rate, as in the base config'
