"""The store that keeps positions between evaluations."""

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor

from .position import Grid, GridBias, PositionMlp


class PositionCache:
    """Positions kept between evaluations, dropped when a weight they came from changes.

    A change is seen by storage and version counter (optimizers, ``load_state_dict``, ``.to()``), without reading a weight: a GPU is not
    waited for. Writes through ``.data`` leave the counter alone. mmengine's EMA makes those, and its loops call ``eval()`` or ``train()``
    after it, which call :meth:`clear`; whoever writes through ``.data`` between two forwards in eval calls one of them too. Copies and
    pickles start empty, so ``copy.deepcopy`` always works.

    Args:
        watch: look for changes; without it the weights must never change.
        max_bytes: least recently used entries go when this is exceeded, but none that the running forward has used: what does not fit
            beside those is computed every time, and so is an entry larger than a quarter of the bound.
    """

    def __init__(self, max_bytes: int = 2**30, watch: bool = True) -> None:
        self.max_bytes, self.watch = max_bytes, watch
        self._forward = 0  # counts refreshes
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._entries: OrderedDict[tuple, tuple[Tensor | GridBias, int]] = (
            OrderedDict()
        )  # value, the forward that used it last
        self._state: tuple = ()
        self._weights: list[Tensor] = []  # views: they keep the storage from being reused by others

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(value.nbytes for value, _ in self._entries.values())

    def refresh(self, modules: Iterable[PositionMlp]) -> 'PositionCache | None':
        """Before a forward: this cache, emptied where a weight of ``modules`` has changed; None where they cannot be watched.

        None too while a CUDA graph is captured: what it makes has no numbers yet, and what is kept could be dropped before the graph runs.
        """
        if _capturing():
            return None
        if not self.watch:
            self._forward += 1
            return self
        params = [p for m in modules for p in (m.fc1.weight, m.fc1.bias, m.fc2.weight)]
        if len({(p.device, p.dtype) for p in params}) != 1 or params[0].is_meta:
            return None
        state = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in params)
        if state != self._state:
            self.clear()
            self._state, self._weights = state, [p.detach() for p in params]
        self._forward += 1
        return self

    def get(
        self, module: PositionMlp, grid: Grid, num_prefix_tokens: int, dtype: torch.dtype
    ) -> Tensor | GridBias:
        """``module(grid, num_prefix_tokens, dtype)``, computed or remembered."""
        key = (module, grid, num_prefix_tokens, dtype, module.fc1.weight.device)
        if key in self._entries:
            value = self._entries.pop(key)[0]
            self._entries[key] = (value, self._forward)  # now the most recently used
            return value
        value = module(grid, num_prefix_tokens, dtype)
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
        return type(self), (self.max_bytes, self.watch)


def _capturing() -> bool:
    """Whether a CUDA graph is being captured."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
