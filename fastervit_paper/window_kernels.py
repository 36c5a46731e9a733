"""Attention within windows by several kernels: the same products, with the position bias added in each."""

from collections.abc import Callable
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from fastervit_backbone.benchmark.setting import Setting
from fastervit_backbone.models.arch import ARCHS, STRIDES
from fastervit_backbone.utils.errors import UserError

#: 'sdpa' is what the model runs: the bias is the mask of ``scaled_dot_product_attention``. 'flex' adds it
#: inside FlexAttention's compiled kernel. 'plain' leaves it out: the lower bound of both.
KERNELS = ('sdpa', 'flex', 'plain')
#: The third stage: most of a model's attention.
STAGE = 2


def build_windows(name: str, setting: Setting) -> Callable[[], Tensor]:
    """Build a candidate of ``fastervit benchmark``, ``windows:ARCH:KERNEL``; see :func:`window_attention`."""
    attend, _ = window_attention(name, setting)
    return torch.inference_mode()(attend)


def window_attention(name: str, setting: Setting) -> tuple[Callable[[], Tensor], tuple[Tensor, ...]]:
    """Build one attention over all windows of an image at stage 3, without its linear layers.

    Args:
        name: ``ARCH:KERNEL``.
        setting: image size, batch, dtype and device.

    Returns:
        the call, and its tensors: q, k, v (B * windows, heads, N, d) and the bias (heads, N, N).

    Raises:
        UserError: no such arch or kernel, or training.
    """
    arch, _, kernel = name.partition(':')
    if arch not in ARCHS or kernel not in KERNELS:
        raise UserError(f'no candidate windows:{name}: use {", ".join(ARCHS)} with {", ".join(KERNELS)}')
    if setting.train:
        raise UserError(f'windows:{name}: measured only in inference, leave out --train')
    spec = ARCHS[arch]
    heads, side = spec.num_heads[STAGE], spec.window_sizes[STAGE]
    windows = setting.batch
    for pixels in setting.size:
        windows *= ceil(ceil(pixels / STRIDES[STAGE]) / side)
    tokens = side**2 + (spec.carrier_size**2 if spec.hat[STAGE] else 0)
    d = spec.channels[STAGE] // heads
    generator = torch.Generator().manual_seed(0)
    options = dict(device=setting.device, dtype=setting.low_precision or torch.float32)
    q, k, v = (torch.randn(windows, heads, tokens, d, generator=generator).to(**options) for _ in range(3))
    bias = torch.randn(heads, tokens, tokens, generator=generator).to(**options)
    return _call(kernel, q, k, v, bias), (q, k, v, bias)


def _call(kernel: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    if kernel == 'plain':
        return lambda: F.scaled_dot_product_attention(q, k, v)
    if kernel == 'sdpa':
        return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
    from torch.nn.attention.flex_attention import flex_attention

    def add_bias(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + bias[h, query, key]

    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(q, k, v, score_mod=add_bias)
