"""bfloat16 autocast in mmdet's models: everything that handles coordinates computes in float32.

mmcv's compiled operators support only float32 and float16, and near 1000 bfloat16 coordinates are multiples
of 4.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor, nn

#: Module of mmcv.ops -> its autograd functions that detectors use.
FUNCTIONS = {
    'roi_align': ('RoIAlignFunction',),
    'roi_pool': ('RoIPoolFunction',),
    'nms': ('NMSop', 'SoftNMSop'),
    'focal_loss': ('SigmoidFocalLossFunction', 'SoftmaxFocalLossFunction'),
    'multi_scale_deform_attn': ('MultiScaleDeformableAttnFunction',),
    'deform_conv': ('DeformConv2dFunction',),
    'modulated_deform_conv': ('ModulatedDeformConv2dFunction',),
}
#: Attribute that marks a patched method.
_MARK = '_float32'

Forward = Callable[..., Any]


class HasForward(Protocol):
    """A class with a ``forward`` that can be replaced."""

    forward: Any


def widen(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Convert all floating tensors among an operator's arguments to float32 if one is bfloat16."""
    if not any(isinstance(v, Tensor) and v.dtype == torch.bfloat16 for v in values):
        return values
    return tuple(v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for v in values)


def run_in_float32() -> None:
    """Patch mmcv and mmdet so that operators and coordinates never see bfloat16; idempotent.

    - Operators compute bfloat16 inputs in float32, forward and backward.
    - RoI extractors get float32 maps: they would round the regions to the dtype of the maps.
    - Dense, box and mask heads return float32: anchors are made, and boxes decoded, in the dtype of their
    outputs.
    - DETR heads compute in float32: they produce boxes themselves.

    float16 is unchanged: the operators support it, and mmdet is designed for it.
    """
    for function in _functions():
        function.forward = staticmethod(_patched(function.forward, _with_wide_operands))
    from mmdet.models.dense_heads import DETRHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
    from mmdet.models.roi_heads.bbox_heads import BBoxHead
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor

    for extractor in (SingleRoIExtractor, GenericRoIExtractor):
        extractor.forward = _patched(extractor.forward, _with_wide_maps)
    for head in _with_own_forward(BaseDenseHead, BBoxHead, FCNMaskHead):
        head.forward = _patched(head.forward, _with_wide_results)
    # a DETR head adds to its references in the dtype of its layers, which are small
    for head in _with_own_forward(DETRHead):
        head.forward = _patched(head.forward, _without_autocast)


def _functions() -> Iterator[HasForward]:
    for name, functions in FUNCTIONS.items():
        module = import_module(f'mmcv.ops.{name}')  # mmcv.ops has functions of the modules' names
        yield from (getattr(module, function) for function in functions)


def _with_own_forward(*classes: Any) -> Iterator[HasForward]:
    """Yield those of the classes and their subclasses that define ``forward`` themselves."""
    for cls in classes:
        if 'forward' in vars(cls):
            yield cls
        yield from _with_own_forward(*cls.__subclasses__())


def _patched(forward: Forward, patch: Callable[[Forward], Forward]) -> Forward:
    """Apply ``patch`` to a method, once."""
    if hasattr(forward, _MARK):
        return forward
    patched = wraps(forward)(patch(forward))
    setattr(patched, _MARK, True)
    return patched


def _with_wide_operands(forward: Forward) -> Forward:
    return lambda context, *values: forward(context, *widen(values))


def _with_wide_maps(forward: Forward) -> Forward:
    return lambda self, feats, *args, **kwargs: forward(self, widen(tuple(feats)), *args, **kwargs)


def _with_wide_results(forward: Forward) -> Forward:
    return lambda *args, **kwargs: _widen_nested(forward(*args, **kwargs))


def _without_autocast(forward: Forward) -> Forward:
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        device = next(self.parameters()).device.type
        if not torch.is_autocast_enabled(device) or torch.get_autocast_dtype(device) != torch.bfloat16:
            return forward(self, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return forward(self, *_widen_nested(args), **{k: _widen_nested(v) for k, v in kwargs.items()})

    return run


def _widen_nested(values: Any) -> Any:
    """Convert bfloat16 tensors within tuples and lists to float32."""
    if isinstance(values, Tensor):
        return values.float() if values.dtype == torch.bfloat16 else values
    return type(values)(map(_widen_nested, values)) if type(values) in (tuple, list) else values
