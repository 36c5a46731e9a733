"""Choose how images are read, and fit a model to channels that are no colors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from ..datasets.channel_statistics import ChannelStatistics
from ..datasets.image_files import ARRAYS
from ..datasets.pixel_format import BITS, PixelFormat
from ..datasets.validation.image_files import PixelKinds
from ..utils.errors import UserError


def choose_pixels(kinds: PixelKinds, channels: str | None, rgb: Sequence[int] | None) -> PixelFormat:
    """Choose how images are read.

    Args:
        kinds: of all that are used.
        channels: 'color', 'all', or None for what the images are.
        rgb: channels that pictures show.

    Raises:
        UserError: they cannot be read alike, or options that do not fit them.
    """
    has_others = any(not colors for _, _, colors in kinds.counts)
    shown = None if rgb is None else tuple(rgb)
    if channels == 'color':
        _check_colors(kinds)
    if channels == 'color' or not (has_others or channels == 'all'):
        options: dict[str, Any] = dict(bits=kinds.bits if 0 < kinds.bits < BITS[-1] else None)
    else:
        for violation in kinds.violations(all_channels=True):
            raise UserError(f'{violation.rule.meaning} ({violation.example})')
        if not kinds.counts:
            raise UserError('--channels all: no image can be read')
        count, dtype, _ = next(iter(kinds.counts))
        options = dict(channels=count, dtype=dtype)
    try:
        return PixelFormat(**options, rgb=shown)
    except ValueError as error:
        raise UserError(f'--rgb: {error}' if rgb is not None else f'the images: {error}') from error


def _check_colors(kinds: PixelKinds) -> None:
    """Raise UserError where images cannot be read as colors."""
    for (count, dtype, colors), name in kinds.first.items():
        if not colors and (
            count > 4 or dtype not in ('uint8', 'uint16') or Path(name).suffix.lower() == ARRAYS
        ):
            raise UserError(
                f'--channels color: {name} has {count} channels of {dtype}, no colors: leave it out'
            )


def set_channels(model: ConfigDict, found: ChannelStatistics) -> None:
    """Let a model take channels that are no colors, normalized by their own statistics."""
    model.backbone.in_chans = len(found.mean)
    preprocessor = model.data_preprocessor
    for key in ('bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'):
        preprocessor.pop(key, None)
    of_toolkit = str(preprocessor.get('type')).split('.')[-1]
    if of_toolkit in ('DetDataPreprocessor', 'SegDataPreProcessor'):  # mmpretrain's takes any number
        preprocessor.type = f'MultiChannel{of_toolkit}'
    preprocessor.update(mean=list(found.mean), std=list(found.std))
