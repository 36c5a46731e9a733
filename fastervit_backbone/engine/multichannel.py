"""Normalization of any number of channels, where mmengine's takes one or three."""

from collections.abc import Sequence

import torch
from mmengine.model import ImgDataPreprocessor


class AnyChannels(ImgDataPreprocessor):
    """What the preprocessors of toolkits inherit before their own, whose options they keep.

    Args:
        mean: of each channel, in the numbers of the images.
        std: of each channel.
        options: of the toolkit's preprocessor, but for those that reorder colors.

    Raises:
        ValueError: ``mean`` and ``std`` of different lengths.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], **options: object) -> None:
        super().__init__(**options)
        if len(mean) != len(std):
            raise ValueError(f'{len(mean)} means and {len(std)} standard deviations')
        for name, values in (('mean', mean), ('std', std)):
            self.register_buffer(name, torch.tensor(list(values), dtype=torch.float32).view(-1, 1, 1), False)
        self._enable_normalize = True
