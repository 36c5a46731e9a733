"""Stochastic depth (Huang et al., 2016)."""

from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch per image in training and rescale the kept ones; identity in eval.

    Args:
        p: probability of dropping, in [0, 1).

    Raises:
        ValueError: p outside [0, 1).
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f'drop path probability must be in [0, 1), got {p}')
        self.p = p

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """x: (B*groups, ...); the ``groups`` rows of an image (its windows) are dropped together."""
        if not self.training or self.p == 0.0:
            return x
        keep_shape = (x.shape[0] // groups, *[1] * (x.ndim - 1))
        keep = x.new_empty(keep_shape).bernoulli_(1 - self.p).div_(1 - self.p)
        return x * (keep.repeat_interleave(groups, 0) if groups > 1 else keep)

    def extra_repr(self) -> str:
        """Arguments shown by ``print(net)``."""
        return f'p={self.p:.3f}'
