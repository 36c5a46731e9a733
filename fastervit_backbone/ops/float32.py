"""bfloat16 autocast in mmdet's models: what knows coordinates computes in float32.

mmcv's compiled operators take float32 and float16 only, and bfloat16 holds coordinates no better than to 4 pixels at 1000.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module

import torch
from torch import Tensor

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


def widen(values: tuple) -> tuple:
    """Arguments of an operator: where a tensor is bfloat16, all floating tensors become float32; else as they are."""
    if not any(isinstance(v, Tensor) and v.dtype == torch.bfloat16 for v in values):
        return values
    return tuple(v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for v in values)


def run_in_float32() -> None:
    """Change mmcv's operators and mmdet's classes in place so that bfloat16 reaches neither operators nor coordinates. Safe to repeat.

    - Operators compute bfloat16 inputs in float32, forward and backward.
    - RoI extractors get float32 maps: they would round the regions to the dtype of the maps.
    - Dense, box and mask heads give float32: anchors are made, and boxes decoded, in the dtype of what they give.
    - DETR heads compute in float32: they make boxes themselves.

    float16 stays as it is: the operators take it, and mmdet is made for it.
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
    for head in _with_subclasses(BaseDenseHead, BBoxHead, FCNMaskHead):
        if 'forward' in vars(head):
            head.forward = _patched(head.forward, _with_wide_results)
    for head in _with_subclasses(
        DETRHead
    ):  # adds to its references in the dtype of its layers, which are small
        if 'forward' in vars(head):
            head.forward = _patched(head.forward, _without_autocast)


def _functions() -> Iterator[type[torch.autograd.Function]]:
    for module, names in FUNCTIONS.items():
        module = import_module(f'mmcv.ops.{module}')  # mmcv.ops has functions of the modules' names
        yield from (getattr(module, name) for name in names)


def _with_subclasses(*classes: type) -> Iterator[type]:
    for cls in classes:
        yield cls
        yield from _with_subclasses(*cls.__subclasses__())


def _patched(forward: Callable, change: Callable[[Callable], Callable]) -> Callable:
    """``change`` made to a method, once."""
    if hasattr(forward, '_float32'):
        return forward
    changed = wraps(forward)(change(forward))
    changed._float32 = True
    return changed


def _with_wide_operands(forward: Callable) -> Callable:
    return lambda context, *values: forward(context, *widen(values))


def _with_wide_maps(forward: Callable) -> Callable:
    return lambda self, feats, *args, **kwargs: forward(self, widen(tuple(feats)), *args, **kwargs)


def _with_wide_results(forward: Callable) -> Callable:
    return lambda *args, **kwargs: _widen_all(forward(*args, **kwargs))


def _without_autocast(forward: Callable) -> Callable:
    def run(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        device = next(self.parameters()).device.type
        if not torch.is_autocast_enabled(device) or torch.get_autocast_dtype(device) != torch.bfloat16:
            return forward(self, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return forward(self, *_widen_all(args), **{k: _widen_all(v) for k, v in kwargs.items()})

    return run


def _widen_all(values: object) -> object:
    """Tensors within tuples and lists, bfloat16 ones as float32."""
    if isinstance(values, Tensor):
        return values.float() if values.dtype == torch.bfloat16 else values
    return type(values)(map(_widen_all, values)) if type(values) in (tuple, list) else values
