"""Deformable convolution and attention, under the names and with the arguments of ``mmcv._ext``.

The convolutions run on torchvision's ``deform_conv2d``, attention on mmcv's torch code.
"""

from collections.abc import Callable

import torch
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor

from .recompute import gradients, wide

_OPS = torch.ops.torchvision


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Compute multi-scale deformable attention with mmcv's own torch code; returns (B, queries, channels)."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(
        value, value_spatial_shapes, sampling_locations, attention_weights
    )


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients by running the forward again."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    def attention(values: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return multi_scale_deformable_attn_pytorch(values, value_spatial_shapes, locations, weights)

    grads = gradients(attention, [value, sampling_locations, attention_weights], grad_output)
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        target.copy_(grad)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Fill ``output`` with a deformable convolution without masks and bias (Dai et al., arXiv 1703.06211)."""
    output.copy_(_plain(geometry)(wide(input), wide(offset), wide(weight)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Fill the gradients of input and offsets by running the forward again."""
    convolve, kernel = _plain(geometry), wide(weight)
    grads = gradients(lambda x, o: convolve(x, o, kernel), [wide(input), wide(offset)], wide(grad_output))
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **geometry: int,
) -> None:
    """Add ``scale`` times the gradient of the weight to ``grad_weight``."""
    convolve, maps, offsets = _plain(geometry), wide(input), wide(offset)
    weight = torch.zeros_like(wide(grad_weight))  # the convolution is linear in it
    (grad,) = gradients(lambda w: convolve(maps, offsets, w), [weight], wide(grad_output))
    grad_weight.add_(grad.to(grad_weight), alpha=scale)


def _plain(geometry: dict[str, int]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')

    def convolve(input: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        mask, bias = weight.new_zeros(len(input), 1), weight.new_zeros(weight.shape[0])
        return _OPS.deform_conv2d(input, weight, offset, mask, bias, *(geometry[n] for n in names), False)

    return convolve


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Fill ``output`` with a deformable convolution with masks (Zhu et al., arXiv 1811.11168)."""
    convolve = _modulated(with_bias, geometry)
    output.copy_(convolve(wide(input), wide(weight), wide(offset), wide(mask), wide(bias)))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Fill the gradients by running the forward again."""
    inputs = [wide(t) for t in (input, weight, offset, mask, bias)]
    targets = [grad_input, grad_weight, grad_offset, grad_mask, grad_bias]
    count = 5 if with_bias else 4
    convolve = _modulated(with_bias, geometry)
    if with_bias:
        grads = gradients(convolve, inputs, wide(grad_output))
    else:
        grads = gradients(lambda *tensors: convolve(*tensors, inputs[4]), inputs[:4], wide(grad_output))
    for target, grad in zip(targets[:count], grads, strict=True):
        target.copy_(grad)


def _modulated(with_bias: bool, geometry: dict[str, int]) -> Callable[..., Tensor]:
    sides = [(geometry[f'stride_{s}'], geometry[f'pad_{s}'], geometry[f'dilation_{s}']) for s in 'hw']
    arguments = [value for pair in zip(*sides, strict=True) for value in pair]
    arguments += [geometry['group'], geometry['deformable_group']]

    def convolve(input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        bias = bias if with_bias else weight.new_zeros(weight.shape[0])
        size = [
            (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for length, kernel, (stride, pad, dilation) in zip(
                input.shape[2:], weight.shape[2:], sides, strict=True
            )
        ]
        offset, mask = _read_as(offset, size), _read_as(mask, size)
        return _OPS.deform_conv2d(input, weight, offset, mask, bias, *arguments, True)

    return convolve


def _read_as(x: Tensor, size: list[int]) -> Tensor:
    """Return the first numbers of each image's memory as a map of a smaller size, as mmcv's kernels read it.

    mmdet's DyHead passes offsets and masks of the level below; its published weights were trained so.
    """
    B, C = x.shape[:2]
    if list(x.shape[2:]) == size or x[0].numel() < C * size[0] * size[1]:  # too small: torchvision's error
        return x
    return x.flatten(1)[:, : C * size[0] * size[1]].reshape(B, C, *size)
