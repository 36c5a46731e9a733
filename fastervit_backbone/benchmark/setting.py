"""How candidates are run."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Setting:
    """How all candidates are run.

    Attributes:
        size: (height, width) of the images.
        batch: images per call.
        dtype: 'fp32', 'tf32' (only CUDA), 'bf16' or 'fp16'; the last two are autocast, or in deploy mode the
            dtype of the weights.
        device: 'cpu' or 'cuda'.
        channels_last: memory format of images and weights.
        compile: use ``torch.compile``.
        train: forward and backward, instead of inference.
        objects: that a detector finds in an image, its threshold lowered for it; None: as many as it finds.
        photographs: whole predictions of ``batch`` photographs one by one, instead of tensors.
    """

    size: tuple[int, int]
    batch: int = 1
    dtype: str = 'fp32'
    device: str = 'cpu'
    channels_last: bool = False
    compile: bool = False
    train: bool = False
    photographs: bool = False
    objects: int | None = None

    @property
    def low_precision(self) -> torch.dtype | None:
        """The 16-bit dtype, or None."""
        return {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(self.dtype)

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, enabled: bool = True) -> torch.autocast:
        """Create the autocast context; it does nothing for 'fp32' and 'tf32'."""
        use_autocast = enabled and self.low_precision is not None
        return torch.autocast(self.device, self.low_precision, enabled=use_autocast)
