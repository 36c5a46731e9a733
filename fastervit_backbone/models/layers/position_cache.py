"""Cache that keeps positions between forward passes."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from .position import AttentionBias, Grid, PositionMlp, PositionModule, PositionT

Key = tuple[PositionMlp, Grid, int, torch.dtype, torch.device]


class PositionCache:
    """LRU cache of positions, cleared when a weight that they were computed from changes.

    A change is detected by storage and version counter (optimizers, ``load_state_dict``, ``.to()``) without
    reading any weight, so there is no GPU synchronization. Writes through ``.data`` do not change the
    counter: mmengine's EMA makes such writes, and its loops then call ``eval()`` or ``train()``, which call
    :meth:`clear`. Any other code that writes through ``.data`` between two forward passes in eval mode must
    call one of the two as well. Copies and pickles start empty, so ``copy.deepcopy`` always works.

    Args:
        max_bytes: bound; the least recently used entries are evicted when it is exceeded, except entries used
            by the current forward pass. Whatever does not fit beside those is computed every time, and so is
            an entry larger than a quarter of the bound.
        watch: detect changed weights; without it the weights must never change.
    """

    def __init__(self, max_bytes: int = 2**30, watch: bool = True) -> None:
        self.max_bytes, self.watch = max_bytes, watch
        self._forward = 0  # number of the current forward pass
        self.clear()

    def clear(self) -> None:
        """Remove all entries."""
        #: value, number of the forward pass that used it last
        self._entries: OrderedDict[Key, tuple[AttentionBias, int]] = OrderedDict()
        self._state: tuple[tuple[int, int], ...] = ()
        self._weights: list[Tensor] = []  # views, which prevent reuse of the weights' storage

    @property
    def nbytes(self) -> int:
        """Size of all entries in bytes."""
        return sum(value.nbytes for value, _ in self._entries.values())

    def refresh(self, modules: Iterable[PositionMlp]) -> 'PositionCache | None':
        """Prepare for a forward pass: clear the cache if a weight of ``modules`` has changed.

        Returns:
            this cache, or None where it must not be used: because the weights cannot be watched, or because a
            CUDA graph is being captured (new tensors hold no values yet, and existing entries could be
            evicted before the graph is replayed).
        """
        if _is_capturing():
            return None
        if self.watch:
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
        self, module: PositionMlp[PositionT], grid: Grid, num_prefix_tokens: int, dtype: torch.dtype
    ) -> PositionT:
        """Return ``module(grid, num_prefix_tokens, dtype)``, cached or computed."""
        key = (module, grid, num_prefix_tokens, dtype, module.fc1.weight.device)
        if key in self._entries:
            cached, _ = self._entries.pop(key)
            self._entries[key] = (cached, self._forward)  # now the most recently used
            return cast(PositionT, cached)
        value = module(grid, num_prefix_tokens, dtype)
        if value.nbytes <= self.max_bytes // 4:
            self._entries[key] = (value, self._forward)
            while self.nbytes > self.max_bytes:
                oldest = next(iter(self._entries))
                _, last_used = self._entries[oldest]
                # an entry of the current pass would have to be computed again: evict the new one instead
                self._entries.pop(oldest if last_used != self._forward else key)
        return value

    def __len__(self) -> int:
        return len(self._entries)

    def __reduce__(self) -> tuple[type['PositionCache'], tuple[int, bool]]:
        return type(self), (self.max_bytes, self.watch)


def look_up(
    cache: PositionCache | None,
    module: PositionModule[PositionT],
    grid: Grid,
    num_prefix_tokens: int,
    dtype: torch.dtype,
) -> PositionT:
    """Return ``module(grid, num_prefix_tokens, dtype)``, from the cache if there is one."""
    if cache is None or not isinstance(module, PositionMlp):
        return module(grid, num_prefix_tokens, dtype)
    return cache.get(module, grid, num_prefix_tokens, dtype)


def _is_capturing() -> bool:
    """Whether a CUDA graph is being captured."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
