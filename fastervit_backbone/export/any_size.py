"""Modules whose sizes stay symbols, for files that take images of any size."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..models.layers.hat import CarrierLayer
from ..utils.errors import UserError
from .graph import Graph


class MatrixPool(nn.Module):
    """Adaptive average pooling of a map of any size, as two products: exporters know it for fixed sizes only.

    Args:
        size: (rows, columns) of the result.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.size = size if isinstance(size, tuple) else (size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, rows, columns)."""
        rows, columns = (_averages(n, length, x) for n, length in zip(self.size, x.shape[2:], strict=True))
        return rows @ x @ columns.T


def _averages(cells: int, length: int, like: Tensor) -> Tensor:
    """Weights (cells, length) of the means over [floor(i*length/cells), ceil((i+1)*length/cells))."""
    i = torch.arange(cells, device=like.device)[:, None]
    at = torch.arange(length, device=like.device)
    start, end = i * length // cells, ((i + 1) * length + cells - 1) // cells
    return ((at >= start) & (at < end)).to(like.dtype) / (end - start)


class IntegerUpsample(nn.Module):
    """mmseg's Upsample by an integer factor, whose sizes stay symbols.

    Args:
        upsample: the module that it replaces.

    Raises:
        UserError: a factor that is no integer.
    """

    def __init__(self, upsample: Any) -> None:
        super().__init__()
        factor = upsample.scale_factor
        if isinstance(factor, tuple) or factor != int(factor):
            raise UserError(
                f'--dynamic: upsampling by {factor} has no exact size for every image: use --size'
            )
        self.factor, self.options = (
            int(factor),
            dict(mode=upsample.mode, align_corners=upsample.align_corners),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, factor*H, factor*W)."""
        size = (x.shape[2] * self.factor, x.shape[3] * self.factor)
        return nn.functional.interpolate(x, size=size, **self.options)


class IndexedBias(nn.Module):
    """A position bias for a grid of any size, by indexing: torch.export cannot unfold by a symbol.

    Args:
        bias: the position module.
    """

    def __init__(self, bias: Any) -> None:
        super().__init__()
        self.bias: Any = bias

    def forward(self, grid: tuple[int, int], num_prefix_tokens: int, dtype: torch.dtype) -> Tensor:
        """Return the bias (1, h, N, N) of the tokens of a grid."""
        table = self.bias.table(grid).to(dtype)
        rows, columns = (torch.arange(n, device=table.device) for n in grid)
        rows = rows[:, None] - rows + grid[0] - 1
        columns = columns[:, None] - columns + grid[1] - 1
        number = grid[0] * grid[1]
        bias = table[:, rows[:, None, :, None], columns[None, :, None, :]]
        return bias.reshape(1, len(table), number, number)


def prepare_for_any_size(graph: Graph) -> None:
    """Replace the modules of a graph that torch.export knows for fixed sizes only.

    Raises:
        UserError: one that depends on the size.
    """
    for module in list(graph.modules()):
        if isinstance(module, CarrierLayer):
            if module.window is not None:
                raise UserError('--dynamic: carriers of higher order depend on the size: use --size')
            module.bias = IndexedBias(module.bias)  # type: ignore[assignment]
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(module, name, MatrixPool(cast(Any, child.output_size)))
            elif (
                type(child).__name__ == 'Upsample' and child.size is None
            ):  # mmseg's, which makes floats of sizes
                setattr(module, name, IntegerUpsample(child))
