"""Gradient checkpointing (Chen et al., arXiv 1604.06174) that updates BatchNorm statistics once per batch."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

BATCH_NORM = (nn.BatchNorm2d, nn.SyncBatchNorm)


def recomputed(block: nn.Module, *args: Any) -> Any:
    """Run ``block(*args)`` without keeping activations.

    The backward pass recomputes them with the same random numbers.
    """
    return checkpoint(
        block, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(block))
    )


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Keep BatchNorm statistics unchanged while a block is recomputed: no batch may count twice."""
    norms = [m for m in block.modules() if isinstance(m, BATCH_NORM)]
    momenta = [norm.momentum for norm in norms]
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    counts = [counter.clone() for counter in counters]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for counter, count in zip(counters, counts, strict=True):
            counter.copy_(count)
