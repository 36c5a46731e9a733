"""Parameters and floating-point operations of whole mm models, counted by torch while the model runs."""

import copy
import functools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..models.layers.position import PositionMlp
from .config_models import data_samples, in_chans_of

#: Regions that the heads of a two-stage detector are counted with: mmdet's test setting, as in the papers.
PROPOSALS = 1000
MASKS = 100


@dataclass(frozen=True)
class Complexity:
    """Cost of one image.

    Attributes:
        parameters: of the whole model, auxiliary heads included.
        backbone_parameters: of its backbone.
        flops: floating-point operations of matrix products, convolutions and attention in one forward of the
            whole model (a multiply-add is two); norms, activations, sampling and NMS are not counted,
            auxiliary heads do not run.
        backbone_flops: those of the backbone.
    """

    parameters: int
    backbone_parameters: int
    flops: int
    backbone_flops: int

    @property
    def macs(self) -> int:
        """Multiply-adds, half of ``flops``: what papers print as "FLOPs"."""
        return self.flops // 2


@torch.no_grad()
def measure(model: nn.Module, size: tuple[int, int]) -> Complexity:
    """Count parameters and FLOPs of a detector, segmenter or classifier of mmdet, mmseg or mmpretrain.

    The backbone is counted on the meta device in a second forward, to leave out what it computes only once
    per size in eval mode (FasterViT's position MLPs). The rest gets maps of zeros: fake tensors, which
    have no values, but in models like DINO and Mask2Former, whose shapes depend on values.

    Args:
        model: built from a config, on the CPU; switched to eval mode.
        size: (height, width) of the image.

    Raises:
        ValueError: an unsupported kind of model.
    """
    model.eval()
    flops, maps = _count_backbone(model.backbone, size)

    backbone = model.backbone
    model.backbone = _FixedMaps([m.shape for m in maps])
    depends_on_values = hasattr(model, 'encoder') or _query_head(model) is not None
    try:
        with nullcontext() if depends_on_values else FakeTensorMode(allow_non_fake_inputs=True):
            other_flops = _count_flops(lambda: _predict(model, torch.zeros(1, in_chans_of(backbone), *size)))
    finally:
        model.backbone = backbone
    return Complexity(
        parameters=count_parameters(model),
        backbone_parameters=count_parameters(backbone),
        flops=flops + other_flops,
        backbone_flops=flops,
    )


@torch.no_grad()
def backbone_flops(backbone: nn.Module, size: tuple[int, int]) -> int:
    """Count a backbone's FLOPs for one image of (height, width) = ``size``, on the meta device.

    Left out is what it computes only once per size in eval mode (FasterViT's position MLPs).
    """
    return _count_backbone(backbone.eval(), size)[0]


def _count_backbone(backbone: nn.Module, size: tuple[int, int]) -> tuple[int, tuple[Tensor, ...]]:
    meta_backbone = copy.deepcopy(backbone).to('meta')
    for module in meta_backbone.modules():
        if isinstance(module, PositionMlp):  # FasterViT's own cache cannot track weights on meta
            module.forward = functools.cache(module.forward)
    images = torch.empty(1, in_chans_of(backbone), *size, device='meta')
    maps = meta_backbone(images)
    return _count_flops(lambda: meta_backbone(images)), maps


def count_parameters(module: nn.Module) -> int:
    """Count the elements of all parameters, frozen or not."""
    return sum(p.numel() for p in module.parameters())


class _FixedMaps(nn.Module):
    """Replace a backbone by maps of zeros of the shapes that it would return."""

    def __init__(self, shapes: list[torch.Size]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros(shape) for shape in self.shapes)


def _count_flops(function: Callable[[], object]) -> int:
    # the math backend shows attention as the products that every backend computes
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def _predict(model: nn.Module, images: Tensor) -> None:
    """Run everything that prediction runs, with a fixed number of regions in two-stage detectors."""
    if hasattr(model, 'roi_head'):
        _predict_two_stage(model, images)
    elif (head := _query_head(model)) is not None:
        head(model.extract_feat(images), data_samples('mmdet', tuple(images.shape[2:])))
    elif hasattr(model, 'decode_head'):
        model.decode_head(model.extract_feat(images))
    elif hasattr(model, 'bbox_head'):
        model(images, data_samples('mmdet', tuple(images.shape[2:])), mode='tensor')
    elif hasattr(model, 'head'):
        model(images, mode='tensor')
    else:
        raise ValueError(f'{type(model).__name__} has no head that is known here: cannot count it')


def _query_head(model: nn.Module) -> nn.Module | None:
    """Return Mask2Former's head, of mmdet or mmseg, which also wants image sizes; None of other models."""
    head = getattr(model, 'panoptic_head', getattr(model, 'decode_head', None))
    return head if hasattr(head, 'query_feat') else None


def _predict_two_stage(model: nn.Module, images: Tensor) -> None:
    model.rpn_head(model.extract_feat(images))
    roi_head = model.roi_head
    for extractor, head in _pairs(roi_head.bbox_roi_extractor, roi_head.bbox_head):
        regions = _regions(extractor, PROPOSALS)
        head(roi_head.shared_head(regions) if roi_head.with_shared_head else regions)
    if roi_head.with_mask:
        for extractor, head in _pairs(roi_head.mask_roi_extractor, roi_head.mask_head):
            head(_regions(extractor, MASKS))


def _pairs(extractors: nn.Module, heads: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Pair each head with its extractor: cascades have lists of both, other detectors one of each."""
    if isinstance(heads, nn.ModuleList):
        return list(zip(extractors, heads, strict=True))
    return [(extractors, heads)]


def _regions(extractor: nn.Module, count: int) -> Tensor:
    """Return what a RoI extractor returns for ``count`` regions, as zeros: it has nothing that is counted."""
    return torch.zeros(count, extractor.out_channels, *extractor.roi_layers[0].output_size)
