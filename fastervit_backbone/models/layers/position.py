"""Positions from small MLPs over coordinates (log-spaced coordinates: Swin V2, arXiv 2111.09883, eq. 4).

Legend: n tokens along a side, N tokens of a grid (rows * columns), C channels, h heads, L prefix tokens
    without a position.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: (rows, columns).
Grid = tuple[int, int]
#: Elements of an attention bias that are computed at once.
CHUNK_ELEMENTS = 2**24


@dataclass(frozen=True)
class GridBias:
    """Attention bias between all tokens of a grid, stored as its table of offsets.

    The table grows linearly with the number of tokens, the full bias quadratically.

    Attributes:
        table: (h, 2*rows-1, 2*cols-1), the bias of every offset.
        grid: (rows, columns).
        num_prefix_tokens: L, tokens in front of the grid's, with bias 0.
    """

    table: Tensor
    grid: Grid
    num_prefix_tokens: int = 0

    @property
    def nbytes(self) -> int:
        """Size of the table in bytes."""
        return self.table.nbytes

    @property
    def chunk_rows(self) -> int:
        """Rows of the grid per chunk; all of them for a grid with prefix tokens."""
        rows, cols = self.grid
        if self.num_prefix_tokens:
            return rows
        elements_per_row = len(self.table) * cols * rows * cols
        return min(rows, max(1, CHUNK_ELEMENTS // elements_per_row))

    def materialize(self) -> Tensor:
        """Compute the full bias (1, h, L+N, L+N), query first.

        The row stride is a multiple of 8 elements, as CUDA's memory-efficient attention kernel requires.
        """
        prefix = self.num_prefix_tokens
        size = prefix + self.grid[0] * self.grid[1]
        bias = F.pad(self._rows(0, self.grid[0]), (prefix, -size % 8, prefix, 0))
        return bias[None, :, :, :size]

    def chunks(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (first query, last query + 1, bias (1, h, queries, N)) for consecutive rows of the grid."""
        rows, cols = self.grid
        size = rows * cols
        for row in range(0, rows, self.chunk_rows):
            end = min(rows, row + self.chunk_rows)
            bias = F.pad(self._rows(row, end), (0, -size % 8))
            yield row * cols, end * cols, bias[None, :, :, :size]

    def _rows(self, start: int, end: int) -> Tensor:
        """Bias (h, (end-start)*cols, N) of the queries in some rows of the grid."""
        rows, cols = self.grid
        # Needed: bias[query, key] = table[query - key + n-1] per axis. Windows sliding over the reversed
        # table are [a, key] = table[2n-2 - a - key], so a = n-1 - query: reverse that axis too (after
        # slicing, because flip copies).
        windows = self.table.flip(1, 2).unfold(1, rows, 1).unfold(2, cols, 1)
        bias = windows[:, rows - end : rows - start].flip(1, 2)
        # (h, end-start, cols, rows, cols) -> (h, queries, N)
        return bias.reshape(len(self.table), (end - start) * cols, rows * cols)


#: What attention adds to the products of queries and keys.
AttentionBias = Tensor | GridBias
#: Result of a position module: a tensor, or for attention biases possibly another.
PositionT = TypeVar('PositionT', bound=AttentionBias)


class PositionMlp(nn.Module, Generic[PositionT]):
    """Linear(2 -> 512), ReLU, Linear(512 -> out) without bias; always in float32 or wider.

    Args:
        out_features: outputs per pair of coordinates.
    """

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, 512)
        self.fc2 = nn.Linear(512, out_features, bias=False)

    def mlp(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Map coordinates rows (R,) and cols (S,) to (R, S, out_features), ignoring autocast."""
        weights = (self.fc1.weight, self.fc1.bias, self.fc2.weight)
        wide = torch.promote_types(weights[0].dtype, torch.float32)
        with _no_autocast(weights[0].device.type):
            w1, b1, w2 = (p.to(wide) for p in weights)
            # two (R|S, 512) products meet by broadcasting: (R, 1, 512) + (1, S, 512) -> (R, S, 512)
            hidden = torch.outer(rows.to(wide), w1[:, 0])[:, None] + torch.outer(cols.to(wide), w1[:, 1]) + b1
            return F.linear(F.relu(hidden), w2)


class AbsolutePosition(PositionMlp[Tensor]):
    """Position added to the tokens of a grid; ``out_features`` is their channels."""

    def forward(self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> Tensor:
        """grid: (rows, columns); num_prefix_tokens: L, tokens in front with position 0 -> (1, L+N, C)."""
        rows, cols = (_centered(n, self.fc1.weight.device) for n in grid)
        # (rows, cols, C) -> (1, N, C)
        position = self.mlp(rows, cols).reshape(1, grid[0] * grid[1], -1).to(dtype)
        return F.pad(position, (0, 0, num_prefix_tokens, 0))


class RelativeBias(PositionMlp[AttentionBias]):
    """Attention bias ``16 * sigmoid(MLP(log-spaced offset))`` in (0, 16).

    Args:
        num_heads: heads.
    """

    def forward(self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> AttentionBias:
        """Compute the bias between the tokens of a grid and prefix tokens in front of it, whose bias is 0.

        Args:
            grid: (rows, columns) of the grid; each axis is normalized by its own length.
            num_prefix_tokens: L, tokens in front that have no position (a window's carriers).
            dtype: dtype of the result; computed in float32.

        Returns:
            (1, h, L+N, L+N), query first; a :class:`GridBias`, which yields it in chunks, for a grid whose
            bias has more than ``CHUNK_ELEMENTS`` elements.
        """
        bias = GridBias(self.table(grid).to(dtype), grid, num_prefix_tokens)
        return bias if bias.chunk_rows < grid[0] else bias.materialize()

    def table(self, grid: Grid, beyond: int = 0) -> Tensor:
        """Compute the bias of every offset of a grid (rows, cols), and of ``beyond`` more on each side.

        Returns:
            (h, 2*(rows+beyond)-1, 2*(cols+beyond)-1), query minus key, in float32.
        """
        row_offsets, col_offsets = (_log_offsets(n, self.fc1.weight.device, beyond) for n in grid)
        return (16 * torch.sigmoid(self.mlp(row_offsets, col_offsets))).permute(2, 0, 1)  # (R, S, h)


class FixedPosition(nn.Module, Generic[PositionT]):
    """The result of a position module for one grid, as a constant.

    Args:
        module: the position module.
        grid: (rows, columns).
        num_prefix_tokens: tokens in front of the grid's.
        dtype: dtype of the result.
    """

    value: Tensor

    def __init__(
        self, module: 'PositionModule[PositionT]', grid: Grid, num_prefix_tokens: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.grid, self.num_prefix_tokens, self.dtype = grid, num_prefix_tokens, dtype
        with torch.no_grad():
            position = module(grid, num_prefix_tokens, dtype)
        self.chunked = isinstance(position, GridBias)
        value = position.table if isinstance(position, GridBias) else position
        self.length = value.shape[-1]
        pad = 0 if self.chunked or isinstance(module, AbsolutePosition) else -self.length % 8
        # stored padded, so that rows stay aligned through copies and moves
        self.register_buffer('value', F.pad(value, (0, pad)).contiguous())

    def forward(self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> PositionT:
        """Return the constant, as the module would compute it.

        Raises:
            ValueError: another grid or number of prefix tokens.
        """
        if (grid, num_prefix_tokens) != (self.grid, self.num_prefix_tokens):
            raise ValueError(
                f'positions were fixed for a grid of {self.grid} after {self.num_prefix_tokens} tokens, '
                f'got {grid} after {num_prefix_tokens}'
            )
        value = self.value[..., : self.length].to(dtype)
        return cast(PositionT, GridBias(value, grid, num_prefix_tokens) if self.chunked else value)


PositionModule = PositionMlp[PositionT] | FixedPosition[PositionT]


#: Types of devices that have autocast: not meta. Asked once, as torch.compile cannot trace the question.
AUTOCAST_DEVICES = frozenset(
    filter(torch.amp.is_autocast_available, ('cpu', 'cuda', 'hpu', 'mps', 'mtia', 'xla', 'xpu'))
)


def _no_autocast(device: str) -> AbstractContextManager[None]:
    """Disable autocast on a device; a no-op where the device has none (meta)."""
    if device in AUTOCAST_DEVICES:
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _centered(n: int, device: torch.device) -> Tensor:
    """Coordinates (i - n//2) / (n//2) for i in 0..n-1, float32 (n,)."""
    return (torch.arange(n, device=device, dtype=torch.float32) - n // 2) / max(n // 2, 1)


def _log_offsets(n: int, device: torch.device, beyond: int) -> Tensor:
    """Offsets -(n-1)..(n-1), scaled to -8..8 and log-compressed to about -1.06..1.06, float32 (2n-1,).

    With ``beyond``, as many offsets more at both ends, in the same scale.
    """
    d = torch.arange(1 - n - beyond, n + beyond, device=device, dtype=torch.float32) * 8 / max(n - 1, 1)
    return torch.sign(d) * torch.log2(d.abs() + 1) / 3  # log2(8) = 3
