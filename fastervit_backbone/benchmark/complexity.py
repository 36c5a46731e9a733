"""Parameters and floating-point operations of whole mm models, counted by torch while the model runs."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..models.layers.position import PositionMlp

#: Regions that a two-stage detector's heads are counted with: mmdet's test setting, and what the papers' figures have.
PROPOSALS = 1000
MASKS = 100


@dataclass(frozen=True)
class Complexity:
    """Cost of one image.

    Attributes:
        parameters: of the whole model, auxiliary heads included.
        backbone_parameters: of its backbone.
        flops: floating-point operations of matrix products, convolutions and attention in one forward of the whole model (a
            multiply-add is two); norms, activations, sampling and NMS are not counted, auxiliary heads do not run.
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
    """Count a detector or segmenter of mmdet or mmseg.

    The backbone is counted on the meta device, in a second forward, so that what it computes once per size in eval (FasterViT's position
    MLPs) is not counted; the rest runs on the CPU on maps of zeros.

    Args:
        model: built from a config, on the CPU; put into eval mode.
        size: (height, width) of the image.

    Raises:
        ValueError: a kind of model that this cannot run.
    """
    model.eval()
    backbone = copy.deepcopy(model.backbone).to('meta')
    for module in backbone.modules():
        if isinstance(module, PositionMlp):
            module.forward = functools.cache(
                module.forward
            )  # on meta FasterViT's own cache cannot watch the weights
    images = torch.empty(1, 3, *size, device='meta')
    maps = backbone(images)
    backbone_flops = _count(lambda: backbone(images))
    whole, model.backbone = model.backbone, _Given(tuple(torch.zeros(m.shape) for m in maps))
    try:
        other_flops = _count(lambda: _run(model, torch.zeros(1, 3, *size)))
    finally:
        model.backbone = whole
    return Complexity(
        count_parameters(model), count_parameters(whole), backbone_flops + other_flops, backbone_flops
    )


class _Given(nn.Module):
    """Stands in for a backbone whose maps are known."""

    def __init__(self, maps: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.maps


def _count(work: Callable[[], object]) -> int:
    with (
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):  # attention as the products that every backend computes
        work()
    return counter.get_total_flops()


def count_parameters(module: nn.Module) -> int:
    """Numbers in all parameters, frozen or not."""
    return sum(p.numel() for p in module.parameters())


def _run(model: nn.Module, images: Tensor) -> None:
    """One forward through everything that prediction runs, with a fixed number of regions where there are any."""
    if hasattr(model, 'roi_head'):
        _run_two_stage(model, images)
    elif hasattr(model, 'decode_head'):
        model.decode_head(model.extract_feat(images))
    elif hasattr(model, 'bbox_head'):
        model(images, _samples(images), mode='tensor')
    else:
        raise ValueError(
            f'{type(model).__name__} has no roi_head, decode_head or bbox_head: it cannot be counted'
        )


def _run_two_stage(model: nn.Module, images: Tensor) -> None:
    maps = model.extract_feat(images)
    model.rpn_head(maps)
    heads = model.roi_head
    boxes = _boxes(PROPOSALS, images.shape[2:])
    for extractor, head in _pairs(heads.bbox_roi_extractor, heads.bbox_head):
        head(extractor(maps[: extractor.num_inputs], boxes))
    if heads.with_mask:
        for extractor, head in _pairs(heads.mask_roi_extractor, heads.mask_head):
            head(extractor(maps[: extractor.num_inputs], boxes[:MASKS]))


def _pairs(extractors: nn.Module, heads: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Cascades have lists of both, plain detectors one of each."""
    return (
        list(zip(extractors, heads, strict=True))
        if isinstance(heads, nn.ModuleList)
        else [(extractors, heads)]
    )


def _boxes(count: int, size: tuple[int, int]) -> Tensor:
    """(count, 5) regions of image 0: x1, y1, x2, y2 of all sizes, so that every level of the pyramid gets some."""
    height, width = size
    side = torch.linspace(8, min(size) - 1, count)
    x, y = torch.linspace(0, 1, count) * (width - 1 - side), torch.linspace(1, 0, count) * (height - 1 - side)
    return torch.stack([torch.zeros(count), x, y, x + side, y + side], 1)


def _samples(images: Tensor) -> list:
    from mmdet.structures import DetDataSample

    size = tuple(images.shape[2:])
    return [
        DetDataSample(
            metainfo=dict(
                img_shape=size,
                ori_shape=size,
                batch_input_shape=size,
                pad_shape=size,
                scale_factor=(1.0, 1.0),
            )
        )
    ]
