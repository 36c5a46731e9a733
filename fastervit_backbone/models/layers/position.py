"""Positions from small MLPs over coordinates (DESIGN section 3; log-spaced coordinates after Swin V2, arXiv 2111.09883, equation 4).

Legend: n tokens along a side, N tokens of a grid (rows * columns), C channels, h heads, L leading tokens without a position.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]


class PositionMlp(nn.Module):
    """Linear(2 -> 512), ReLU, Linear(512 -> out) without bias; always in float32 or wider.

    Args:
        out_features: numbers given for a coordinate pair.
    """

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, 512)
        self.fc2 = nn.Linear(512, out_features, bias=False)

    def mlp(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Coordinates rows (R,) and cols (S,) -> (R, S, out_features), whatever autocast says."""
        weights = (self.fc1.weight, self.fc1.bias, self.fc2.weight)
        wide = torch.promote_types(weights[0].dtype, torch.float32)
        device = weights[0].device.type  # meta has no autocast
        with (
            torch.autocast(device, enabled=False)
            if torch.amp.is_autocast_available(device)
            else nullcontext()
        ):
            w1, b1, w2 = (p.to(wide) for p in weights)
            # two (R|S, 512) products meet by broadcasting: (R, 1, 512) + (1, S, 512) -> (R, S, 512)
            hidden = torch.outer(rows.to(wide), w1[:, 0])[:, None] + torch.outer(cols.to(wide), w1[:, 1]) + b1
            return F.linear(F.relu(hidden), w2)


class AbsolutePosition(PositionMlp):
    """Position added to the tokens of a grid; ``out_features`` is their channels."""

    def forward(self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> Tensor:
        """grid: (rows, columns); num_prefix_tokens: L, tokens in front that get 0 -> (1, L+N, C)."""
        rows, cols = (_centred(n, self.fc1.weight.device) for n in grid)
        return F.pad(
            self.mlp(rows, cols).reshape(1, grid[0] * grid[1], -1).to(dtype), (0, 0, num_prefix_tokens, 0)
        )


class RelativeBias(PositionMlp):
    """Attention bias ``16 * sigmoid(MLP(log-spaced offset))`` in (0, 16); ``out_features`` is the heads."""

    def forward(self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> 'Tensor | GridBias':
        """Bias between the tokens of a grid, preceded by ``num_prefix_tokens`` tokens with bias 0.

        Args:
            grid: (rows, columns) of the grid; each axis is normalised by its own length.
            num_prefix_tokens: L, tokens in front that have no position (a window's carriers).
            dtype: dtype of the result; computed in float32.

        Returns:
            (1, h, L+N, L+N), query first; for a grid of more than ``CHUNK`` numbers a :class:`GridBias`, which makes it piece by piece.
        """
        offsets = (_log_offsets(n, self.fc1.weight.device) for n in grid)
        table_hRS = (
            (16 * torch.sigmoid(self.mlp(*offsets))).permute(2, 0, 1).to(dtype)
        )  # R = 2*rows-1, S = 2*cols-1
        bias = GridBias(table_hRS, grid, num_prefix_tokens)
        return bias if bias.chunk_rows < grid[0] else bias.whole()


#: Numbers of an attention bias that are made at once.
CHUNK = 2**24


@dataclass(frozen=True)
class GridBias:
    """The bias between all tokens of a grid, by its table of offsets: the table grows with the grid, the bias with its square.

    Attributes:
        table: (h, 2*rows-1, 2*cols-1), the bias of every offset.
        grid: (rows, columns).
        num_prefix_tokens: L, tokens in front with bias 0.
    """

    table: Tensor
    grid: Grid
    num_prefix_tokens: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.table.nbytes

    @property
    def chunk_rows(self) -> int:
        """Rows of the grid that are made at once; all of them for a grid with tokens in front."""
        rows, cols = self.grid
        return (
            rows
            if self.num_prefix_tokens
            else min(rows, max(1, CHUNK // (len(self.table) * cols * rows * cols)))
        )

    def whole(self) -> Tensor:
        """(1, h, L+N, L+N), query first. The last dimension's storage is a multiple of 8, as the memory-efficient CUDA kernel wants."""
        size = self.num_prefix_tokens + self.grid[0] * self.grid[1]
        return F.pad(
            self._rows(0, self.grid[0]), (self.num_prefix_tokens, -size % 8, self.num_prefix_tokens, 0)
        )[None, :, :, :size]

    def chunks(self) -> Iterator[tuple[int, int, Tensor]]:
        """(first query, last query + 1, bias (1, h, queries, N)) of whole rows, in order."""
        rows, cols = self.grid
        for row in range(0, rows, self.chunk_rows):
            end = min(rows, row + self.chunk_rows)
            yield (
                row * cols,
                end * cols,
                F.pad(self._rows(row, end), (0, -(rows * cols) % 8))[None, :, :, : rows * cols],
            )

    def _rows(self, start: int, end: int) -> Tensor:
        """(h, (end-start)*cols, N): the queries of some rows."""
        rows, cols = self.grid
        # wanted: bias[query, key] = table[query - key + n-1] per axis. Windows sliding over the reversed table are
        # [a, key] = table[2n-2 - a - key], so a = n-1 - query: reverse that axis too
        # (the slice before the flip, which copies)
        bias = (
            self.table.flip(1, 2)
            .unfold(1, rows, 1)
            .unfold(2, cols, 1)[:, rows - end : rows - start]
            .flip(1, 2)
        )
        # (h, end-start, cols, rows, cols) -> (h, queries, N)
        return bias.reshape(len(self.table), (end - start) * cols, rows * cols)


class FixedPosition(nn.Module):
    """What a :class:`PositionMlp` gives for one grid, as a constant.

    Args:
        module: which.
        grid: (rows, columns).
        num_prefix_tokens: tokens in front of the grid's.
        dtype: of the result.
    """

    def __init__(self, module: PositionMlp, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.grid, self.num_prefix_tokens, self.dtype = grid, num_prefix_tokens, dtype
        with torch.no_grad():
            value = module(grid, num_prefix_tokens, dtype)
        self.chunked = isinstance(value, GridBias)
        value = value.table if self.chunked else value
        self.length = value.shape[-1]
        pad = 0 if isinstance(module, AbsolutePosition) or self.chunked else -self.length % 8
        self.register_buffer(
            'value', F.pad(value, (0, pad)).contiguous()
        )  # keeps the aligned rows through copies and moves

    def forward(self, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype) -> Tensor | GridBias:
        """As the module's own.

        Raises:
            ValueError: another grid.
        """
        if (grid, num_prefix_tokens) != (self.grid, self.num_prefix_tokens):
            raise ValueError(
                f'positions were fixed for a grid of {self.grid} after {self.num_prefix_tokens} tokens, '
                f'asked for {grid} after {num_prefix_tokens}'
            )
        value = self.value[..., : self.length].to(dtype)
        return GridBias(value, grid, num_prefix_tokens) if self.chunked else value


def _centred(n: int, device: torch.device) -> Tensor:
    """(i - n//2) / (n//2) for i in 0..n-1, float32."""
    return (torch.arange(n, device=device, dtype=torch.float32) - n // 2) / max(n // 2, 1)


def _log_offsets(n: int, device: torch.device) -> Tensor:
    """Offsets -(n-1)..(n-1), scaled to -8..8 and log-compressed to about -1.06..1.06, float32 (2n-1,)."""
    d = torch.arange(1 - n, n, device=device, dtype=torch.float32) * 8 / max(n - 1, 1)
    return torch.sign(d) * torch.log2(d.abs() + 1) / 3  # log2(8) = 3
