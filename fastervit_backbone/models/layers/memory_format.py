"""The memory format in which maps are returned."""

import torch
from torch import Tensor


def memory_format_of(images: Tensor) -> torch.memory_format:
    """The caller's own format, for the maps: mmcv's RoIAlign reads channels-last maps as if they were contiguous."""
    channels_last = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
