"""Sizes of images at which no window is padded."""

import math
from collections.abc import Mapping
from pathlib import Path

from ..models.arch import STRIDES, ArchSpec
from ..models.fastervit import FasterViT
from .complexity import backbone_flops


def size_step(spec: ArchSpec) -> int:
    """Return the number whose multiples, as sides of an image, fill all windows: 224 for windows of 7."""
    sides = [stride * w for stride, w in _windows(spec)]
    return math.lcm(*sides) if sides else STRIDES[-1]


def wasted(spec: ArchSpec, size: tuple[int, int]) -> list[float]:
    """Return, for each stage with windows, the padding as a fraction of the tokens that images have."""
    fractions: list[float] = []
    for stride, w in _windows(spec):
        tokens = [math.ceil(side / stride) for side in size]
        padded = [math.ceil(t / w) * w for t in tokens]
        fractions.append(math.prod(padded) / math.prod(tokens) - 1)
    return fractions


def _windows(spec: ArchSpec) -> list[tuple[int, int]]:
    """Return stride and window of the stages that have windows."""
    stages = zip(STRIDES, spec.window_sizes, spec.conv, strict=True)
    return [(stride, w) for stride, w, conv in stages if not conv]


def nearby_sizes(spec: ArchSpec, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes without padding around ``size``, the nearest in pixels first."""
    step = size_step(spec)
    heights, widths = ({max(step, s // step * step), -(-s // step) * step} for s in size)
    pixels = math.prod(size)
    sizes = [(h, w) for h in heights for w in widths]
    return sorted(sizes, key=lambda hw: (abs(math.prod(hw) - pixels), hw))


def advice(spec: ArchSpec, name: str, size: tuple[int, int]) -> list[str]:
    """List ``size`` and the sizes around it with their padding and their cost, counted on no data.

    Args:
        spec: of the backbone.
        name: of the backbone, for the heading.
        size: (height, width).
    """
    net = FasterViT(spec)
    sizes = [size, *(s for s in nearby_sizes(spec, size) if s != size)]
    lines = [
        f'{name}: windows are full where both sides are multiples of {size_step(spec)}',
        f'{"size":>12}  {"padding by stage":18}  {"GMACs":>7}  GMACs per megapixel',
    ]
    for height, width in sizes:
        padding = ', '.join(f'{fraction:.0%}' for fraction in wasted(spec, (height, width))) or 'none'
        macs = backbone_flops(net, (height, width)) / 2e9
        cost = macs / (height * width / 1e6)
        lines.append(f'{f"{height}x{width}":>12}  {padding:18}  {macs:7.1f}  {cost:.1f}')
    return lines


def advise(config_path: str | Path, options: Mapping[str, object] | None) -> list[str]:
    """List sizes without padding around the one that the config resizes images to; empty if unknown."""
    from ..engine.config.load import load_config
    from ..inference.load_model import test_dataset

    config = load_config(config_path, options)
    steps = test_dataset(config).get('pipeline') or ()
    scales = [step['scale'] for step in steps if step['type'].endswith('Resize') and 'scale' in step]
    backbone = dict(config.model.backbone)
    if backbone.pop('type') != 'FasterViT' or not scales or not isinstance(scales[0], list | tuple):
        return []
    width, height = scales[0]
    spec = FasterViT(**backbone | dict(init_cfg=None)).spec
    return advice(spec, f'the backbone of {Path(config_path).stem}', (height, width))
