"""Gradient checkpointing (Chen et al., arXiv 1604.06174) that counts every batch once in BatchNorm's statistics."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn
from torch.utils.checkpoint import checkpoint

BATCH_NORM = (nn.BatchNorm2d, nn.SyncBatchNorm)


def recomputed(block: nn.Module, *args: object) -> object:
    """``block(*args)`` that keeps no activations: the backward pass computes them again, with the same random numbers."""
    return checkpoint(
        block, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _keep_statistics(block))
    )


@contextmanager
def _keep_statistics(block: nn.Module) -> Iterator[None]:
    """While a block is computed again for its gradient: BatchNorm must not count the same batch twice."""
    norms = [m for m in block.modules() if isinstance(m, BATCH_NORM)]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
