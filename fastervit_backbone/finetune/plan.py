"""What to train and how, decided from the data, the machine and a preset."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..engine.config.load import load_config
from ..models.fastervit import FasterViT
from ..utils.errors import UserError
from .own_data import OwnData

CONFIGS = Path(__file__).parents[2] / 'configs'
#: --model -> (pattern of its configs, config for the nano backbone).
MODELS: dict[str, tuple[str, str | None]] = {
    'cascade': ('cascade_fastervit{}_3x.py', 'demo/cascade_shapes.py'),
    'mask-rcnn': ('mask-rcnn_fastervit{}_1x.py', None),
    'dino': ('dino_fastervit{}_12e.py', 'demo/dino_shapes.py'),
    'upernet': ('upernet_fastervit{}_160k.py', 'demo/upernet_shapes.py'),
    'fpn': ('fpn_fastervit{}_40k.py', 'demo/fpn_shapes.py'),
}
#: Models that learn from label maps; the others learn from COCO jsons.
SEGMENTERS = ('upernet', 'fpn')
#: What an image takes in training, in multiples of what its backbone keeps for the backward pass: neck, heads and buffers beside it.
_WHOLE_MODEL = 1.8
#: By how much the sides of training images vary ('coco'): a batch may hold the largest of them.
RESIZE_RANGE = (0.8, 1.25)
#: Bytes kept for a parameter: weight, gradient, AdamW's two moments, EMA.
_STATE = 20
#: Part of the memory found that is used.
_MEMORY_USED = 0.7
_LARGEST_BATCH = 16
#: Learning rate of a layer over that of the next one, with few images.
_DECAY = 0.85
#: Steps below which an average of the weights would still be what training began with.
_LEAST_AVERAGED = 200
#: Where a container's limit, what it uses, and the cached files in that are found, below /sys/fs/cgroup.
_CONTAINERS = (
    ('memory.max', 'memory.current', ('memory.stat', 'inactive_file')),
    (
        'memory/memory.limit_in_bytes',
        'memory/memory.usage_in_bytes',
        ('memory/memory.stat', 'total_inactive_file'),
    ),
)
#: Bytes that are taken to be free where nothing says.
_UNKNOWN_MEMORY = 8 * 2**30


@dataclass(frozen=True)
class Preset:
    """How long: at least so many epochs and iterations; evaluations without a better figure, in its second half, that end it."""

    epochs: int
    iterations: int
    patience: int


PRESETS = {'quick': Preset(12, 400, 3), 'standard': Preset(36, 3000, 4), 'long': Preset(100, 12000, 4)}


@dataclass(frozen=True)
class Plan:
    """Everything that is decided.

    Attributes:
        base: config whose model, optimizer and runtime are taken.
        size: (height, width) that images are fitted into ('coco'), or crops ('labels').
        batch: images of a step.
        workers: processes that load them.
        epochs: at most.
        every: epochs between evaluations.
        patience: evaluations without a better figure, in the second half, that end it.
        frozen_stages: of the backbone; -1 none.
        decay_rate: of the learning rate, layer by layer towards the image; 1 none.
        ema: momentum of the average of the weights; None without.
        amp: whether in mixed precision.
        start: 'published', 'nothing', 'backbone' or 'model'.
        weights: file of the last two.
        reasons: lines that say why.
    """

    base: Path
    size: tuple[int, int]
    batch: int
    workers: int
    epochs: int
    every: int
    patience: int
    frozen_stages: int
    decay_rate: float
    ema: float | None
    amp: bool
    start: str
    weights: Path | None
    reasons: tuple[str, ...]


def find_base(model: str, arch: str) -> Path:
    """The config that a model and an arch have.

    Raises:
        UserError: there is none; says which there are.
    """
    pattern, nano = MODELS[model]
    path = CONFIGS / (nano if arch == 'nano' else pattern.format(arch)) if arch != 'nano' or nano else None
    if path is not None and path.is_file():
        return path
    there = [a for a in ('0', '1', '2', '3', '4') if (CONFIGS / pattern.format(a)).is_file()] + ['nano'] * (
        nano is not None
    )
    raise UserError(f'--model {model} --arch {arch}: {model} comes with --arch {", ".join(there)}')


def make_plan(
    data: OwnData,
    *,
    model: str,
    arch: str,
    preset: str = 'standard',
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    start: str = 'published',
    weights: Path | None = None,
    amp: bool = True,
) -> Plan:
    """Decide; what is given stays.

    Raises:
        UserError: data, model and numbers that do not go together.
    """
    if (model in SEGMENTERS) != (data.kind == 'labels'):
        wanted = 'label-map folders' if model in SEGMENTERS else 'COCO jsons'
        raise UserError(
            f'--model {model} learns from {wanted}, and {data.train} is not that: one of {", ".join(_models_for(data))}'
        )
    if model == 'mask-rcnn' and not data.masks:
        raise UserError(
            f'--model mask-rcnn learns masks, and not every object in {data.train} and {data.val} has one: --model cascade or dino'
        )
    if arch == 'nano' and start == 'published':
        start = 'nothing'  # there are none
    base, reasons = find_base(model, arch), []
    size = size or _size_for(data, arch)
    least = 2 if model == 'upernet' else 1  # its pooling leaves one pixel, and BatchNorm needs two values
    if batch is None:
        area = 1.0 if data.kind == 'labels' else RESIZE_RANGE[1] ** 2  # crops are all of one size
        batch, why = _batch_for(arch, size, amp, least, area)
        reasons.append(why)
    if batch < least or data.count < least:
        raise UserError(f'--batch {batch} of {data.count} training images: at least {least}')
    batch = min(batch, data.count)
    steps = steps_of(data, batch)
    wanted = PRESETS[preset]
    if epochs is None:
        epochs = max(wanted.epochs, math.ceil(wanted.iterations / steps))
        reasons.append(
            f'{epochs} epochs of {steps} steps: preset {preset}, at least {wanted.epochs} epochs and {wanted.iterations} steps'
        )
    if epochs < 1:
        raise UserError(f'--epochs {epochs}: at least 1')
    frozen, decay = -1, 1.0
    if start != 'nothing' and data.count < 5000:
        frozen, decay, slower = (1 if data.count < 1000 else 0), *_slower_layers(base)
        reasons.append(
            f'{data.count} training images: {"stem and first stage" if frozen else "stem"} stay as pretrained{slower}'
        )
    total = epochs * steps
    return Plan(
        base=base,
        size=size,
        batch=batch,
        workers=max(0, min(8, (os.cpu_count() or 1) - 1)),
        epochs=epochs,
        every=max(1, epochs // 12),
        patience=wanted.patience,
        frozen_stages=frozen,
        decay_rate=decay,
        ema=min(0.05, max(2e-4, 20 / total)) if total >= _LEAST_AVERAGED else None,
        amp=amp and torch.cuda.is_available(),
        start=start,
        weights=weights,
        reasons=tuple(reasons),
    )


def steps_of(data: OwnData, batch: int) -> int:
    """Of an epoch; of label maps the last, smaller batch is left out."""
    return max(1, data.count // batch) if data.kind == 'labels' else math.ceil(data.count / batch)


def _slower_layers(base: Path) -> tuple[float, str]:
    """(decay rate of the learning rate, how that is said) where a base's optimizer has one; DINO's gives the backbone a tenth instead."""
    optimizer = load_config(base).optim_wrapper
    if optimizer.get('constructor') == 'LayerDecayOptimWrapperConstructor':
        return _DECAY, f', early layers learn slower (factor {_DECAY} a layer)'
    part = (((optimizer.get('paramwise_cfg') or {}).get('custom_keys') or {}).get('backbone') or {}).get(
        'lr_mult', 1
    )
    return 1.0, '' if part == 1 else f', the backbone learns at {part:g} of the rate, as in the base config'


def _models_for(data: OwnData) -> list[str]:
    return [m for m in MODELS if (m in SEGMENTERS) == (data.kind == 'labels')]


def _size_for(data: OwnData, arch: str) -> tuple[int, int]:
    """The images' own, in steps of 32, within what the paper's configs have (a quarter of the area for nano, which is for a CPU)."""
    short, long = (512, 512) if data.kind == 'labels' else (800, 1333)
    if arch == 'nano':
        short, long = short // 2, long // 2
    height, width = data.size
    scale = min(1.0, short / min(height, width), long / max(height, width))
    return tuple(max(64, round(v * scale / 32) * 32) for v in (height, width))


def _batch_for(arch: str, size: tuple[int, int], amp: bool, least: int, area: float) -> tuple[int, str]:
    """As many images, of up to ``area`` times ``size``, as the memory found is estimated to hold; a CPU gets few, more are no faster."""
    image, parameters = training_bytes(arch, size)
    gpu = torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if gpu else free_memory()
    image *= area * _WHOLE_MODEL * (0.6 if gpu and amp else 1.0)
    room = max(0.0, _MEMORY_USED * free - _STATE * parameters)
    batch = least
    while batch * 2 <= min(room / image, _LARGEST_BATCH if gpu else 4):
        batch *= 2
    where = 'GPU' if gpu else 'CPU'
    return (
        batch,
        f'batch {batch}: about {image / 2**30:.2g} GiB an image (estimated), {free / 2**30:.3g} GiB free on the {where}',
    )


def free_memory(root: Path = Path('/')) -> int:
    """Bytes that Linux says are available, and no more than what is left of a container's limit; 8 GiB where nothing says.

    Args:
        root: of the file system; tests have their own.
    """
    try:
        said = re.search(r'MemAvailable:\s+(\d+) kB', (root / 'proc/meminfo').read_text())
    except OSError:
        said = None
    free = int(said[1]) * 1024 if said else _UNKNOWN_MEMORY
    for limit, used, cache in _CONTAINERS:  # version 2, then 1
        folder = root / 'sys/fs/cgroup'
        try:
            most, now = (int((folder / name).read_text()) for name in (limit, used))
            statistics = dict(line.split() for line in (folder / cache[0]).read_text().splitlines())
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
        free = min(free, max(0, most - now + int(statistics.get(cache[1], 0))))  # cached files make way
    return free


def training_bytes(arch: str, size: tuple[int, int]) -> tuple[float, int]:
    """(bytes that an image's backward pass needs of the backbone, its parameters), found without computing anything."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
        alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    with torch.device('meta'):
        backbone = FasterViT(arch=arch).train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            backbone(torch.zeros(1, 3, *size))
    parameters = sum(p.numel() for p in backbone.parameters())
    return float(sum(kept.values()) - 4 * parameters), parameters


def describe(plan: Plan, data: OwnData) -> Mapping[str, str]:
    """The plan in words, for ``--dry-run`` and the config's head."""
    shown = ', '.join(data.classes[:8]) + (', ...' if len(data.classes) > 8 else '')
    empty = f', {data.empty} of them without an object: kept' if data.empty else ''
    return {
        'data': f'{data.count} training images{empty}; {len(data.classes)} classes: {shown}',
        'size': f'{plan.size[0]}x{plan.size[1]}' + (' crops' if data.kind == 'labels' else ''),
        'batch': f'{plan.batch}, {plan.workers} processes load',
        'epochs': f'{plan.epochs}, evaluated every {plan.every}; in the second half {plan.patience} without a better figure end it',
        'start': {
            'published': 'published weights (non-commercial licence, see NOTICE)',
            'nothing': 'fresh weights',
        }.get(plan.start, f'{plan.start}, {plan.weights}'),
        'frozen': f'{plan.frozen_stages} (stages; 0 is the stem alone)'
        if plan.frozen_stages >= 0
        else 'nothing',
        'layer decay': f'{plan.decay_rate:g}',
        'EMA': 'none, the run is too short' if plan.ema is None else f'momentum {plan.ema:g}',
        'precision': 'mixed' if plan.amp else 'float32',
    }
