"""Memory format of the returned maps."""

import torch
from torch import Tensor


def memory_format_of(images: Tensor) -> torch.memory_format:
    """Return the format of the images, in which the maps are returned as well.

    Contiguous images must give contiguous maps: mmcv's RoIAlign misreads channels-last ones.
    """
    channels_last = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
