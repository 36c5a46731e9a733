"""Options of mixed precision."""

import torch


def amp_options() -> dict[str, object]:
    """Return the ``optim_wrapper`` of mixed precision on the current CUDA device.

    bfloat16, where the device computes in it, has the range of float32 and needs no loss scaling.
    """
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
    return dict(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
