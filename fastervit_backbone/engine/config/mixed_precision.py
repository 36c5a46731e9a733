"""Options of mixed precision."""

import torch

from ...utils.bfloat16 import computes_in_bfloat16


def amp_options() -> dict[str, object] | None:
    """Return the ``optim_wrapper`` of mixed precision on the CUDA device, or without one on the CPU.

    bfloat16, where the device computes in it, has the range of float32 and needs no loss scaling. None: this
    CPU computes only in float32.
    """
    if not torch.cuda.is_available():
        return dict(type='BFloat16OptimWrapper') if computes_in_bfloat16('cpu') else None
    if computes_in_bfloat16('cuda'):
        return dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
    return dict(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
