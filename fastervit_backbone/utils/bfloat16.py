"""Whether a device computes in bfloat16, as torch finds, not by names of processors."""

import torch


def computes_in_bfloat16(device: str | torch.device) -> bool:
    """Return whether bfloat16 is faster than float32 there.

    Args:
        device: 'cpu' (AVX-512 BF16 or AMX) or 'cuda' (natively, not emulated).
    """
    if torch.device(device).type == 'cuda':
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    names = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)
