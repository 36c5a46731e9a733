"""Positions from small MLPs over coordinates, and the store that keeps them between evaluations (DESIGN section 3; log-spaced
coordinates after Swin V2, arXiv 2111.09883, equation 4).

Legend: n tokens along a side, N tokens of a grid (rows * columns), C channels, h heads, L leading tokens without a position.
"""

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import nullcontext

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
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            w1, b1, w2 = (p.to(wide) for p in weights)
            # two (R|S, 512) products meet by broadcasting: (R, 1, 512) + (1, S, 512) -> (R, S, 512)
            hidden = torch.outer(rows.to(wide), w1[:, 0])[:, None] + torch.outer(cols.to(wide), w1[:, 1]) + b1
            return F.linear(F.relu(hidden), w2)


class AbsolutePosition(PositionMlp):
    """Position added to the tokens of a grid; ``out_features`` is their channels."""

    def forward(self, grid: Grid, lead: int, dtype: torch.dtype) -> Tensor:
        """grid: (rows, columns); lead: unused here, always 0 -> (1, N, C)."""
        rows, cols = (_centred(n, self.fc1.weight.device) for n in grid)
        return self.mlp(rows, cols).reshape(1, grid[0] * grid[1], -1).to(dtype)


class RelativeBias(PositionMlp):
    """Attention bias ``16 * sigmoid(MLP(log-spaced offset))`` in (0, 16); ``out_features`` is the heads."""

    def forward(self, grid: Grid, lead: int, dtype: torch.dtype) -> Tensor:
        """Bias between the tokens of a grid, preceded by ``lead`` tokens with bias 0.

        Args:
            grid: (rows, columns) of the grid; each axis is normalised by its own length.
            lead: L, tokens in front that have no position (a window's carriers).
            dtype: dtype of the result; computed in float32.

        Returns:
            (1, h, L+N, L+N), query first. The last dimension's storage is a multiple of 8, as the memory-efficient CUDA kernel wants.
        """
        rows, cols = grid
        offsets = (_log_offsets(n, self.fc1.weight.device) for n in grid)
        table_hRS = (16 * torch.sigmoid(self.mlp(*offsets))).permute(2, 0, 1).to(dtype)  # R = 2*rows-1, S = 2*cols-1
        # wanted: bias[query, key] = table[query - key + n-1] per axis. Windows sliding over the reversed table are
        # [a, key] = table[2n-2 - a - key], so a = n-1 - query: reverse that axis too
        bias = table_hRS.flip(1, 2).unfold(1, rows, 1).unfold(2, cols, 1).flip(1, 2)
        # (h, rows, cols, rows, cols) -> (h, N, N) -> (h, L+N, L+N+pad)
        bias = bias.reshape(-1, rows * cols, rows * cols)
        size = lead + rows * cols
        return F.pad(bias, (lead, (8 - size % 8) % 8, lead, 0))[None, :, :, :size]


def _centred(n: int, device: torch.device) -> Tensor:
    """(i - n//2) / (n//2) for i in 0..n-1, float32."""
    return (torch.arange(n, device=device, dtype=torch.float32) - n // 2) / max(n // 2, 1)


def _log_offsets(n: int, device: torch.device) -> Tensor:
    """Offsets -(n-1)..(n-1), scaled to -8..8 and log-compressed to about -1.06..1.06, float32 (2n-1,)."""
    d = torch.arange(1 - n, n, device=device, dtype=torch.float32) * 8 / max(n - 1, 1)
    return torch.sign(d) * torch.log2(d.abs() + 1) / 3  # log2(8) = 3


class PositionCache:
    """Positions kept between evaluations, dropped when a weight they came from changes.

    A change is seen by storage and version counter (optimizers, ``load_state_dict``, ``.to()``) and, because writes through ``.data``
    (mmengine's EMA) leave the counter alone, by comparing about 1500 values of every weight with what they were. Only a write through
    ``.data`` to a few chosen values can pass unseen; ``clear()``, which ``train()`` and ``eval()`` call, is for that. On a GPU the
    comparison waits for the device, once per stage and forward. Copies and pickles start empty, so ``copy.deepcopy`` always works.

    Args:
        max_bytes: least recently used entries go when this is exceeded, but none that the running forward has used: what does not fit
            beside those is computed every time, and so is an entry larger than a quarter of the bound.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        self.max_bytes = max_bytes
        self._forward = 0  # counts refreshes
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._entries: OrderedDict[tuple, tuple[Tensor, int]] = OrderedDict()  # value, the forward that used it last
        self._state: tuple = ()
        self._samples: list[Tensor] = []  # views of the weights: also keep their storage from being reused
        self._values: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(value.nbytes for value, _ in self._entries.values())

    def refresh(self, modules: Iterable[PositionMlp]) -> 'PositionCache | None':
        """Before a forward: this cache, emptied where a weight of ``modules`` has changed; None where they cannot be watched."""
        params = [p for m in modules for p in (m.fc1.weight, m.fc1.bias, m.fc2.weight)]
        if len({(p.device, p.dtype) for p in params}) != 1 or params[0].is_meta:
            return None
        state = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in params)
        capturing = params[0].is_cuda and torch.cuda.is_current_stream_capturing()
        if state != self._state or not (capturing or torch.equal(torch.cat(self._samples), self._values)):
            self.clear()
            self._state = state
            self._samples = [p.detach().view(-1)[:: 1 + p.numel() // 1531] for p in params]
            self._values = torch.cat(self._samples)
        self._forward += 1
        return self

    def get(self, module: PositionMlp, grid: Grid, lead: int, dtype: torch.dtype) -> Tensor:
        """``module(grid, lead, dtype)``, computed or remembered."""
        key = (module, grid, lead, dtype, module.fc1.weight.device)
        if key in self._entries:
            value = self._entries.pop(key)[0]
            self._entries[key] = (value, self._forward)  # now the most recently used
            return value
        value = module(grid, lead, dtype)
        if value.nbytes <= self.max_bytes // 4:
            self._entries[key] = (value, self._forward)
            while self.nbytes > self.max_bytes:
                oldest = next(iter(self._entries))
                # all that is left belongs to this forward: dropping it would only make the next one compute it again
                self._entries.pop(oldest if self._entries[oldest][1] != self._forward else key)
        return value

    def __len__(self) -> int:
        return len(self._entries)

    def __reduce__(self) -> tuple:
        return type(self), (self.max_bytes,)
