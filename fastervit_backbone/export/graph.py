"""The modules that are exported: from pixels to maps, logits or probabilities; detectors are beside."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.fastervit import FasterViT
from ..utils.errors import UserError


class Graph(nn.Module):
    """A model from RGB pixels to its results, with fixed numbers of boxes.

    Args:
        model: of mmdet, mmseg or mmpretrain, in eval mode; it is copied, its FasterViT in deploy mode.
        size: (height, width) of the images; None for any, where the kind of model allows it.

    Attributes:
        task: 'backbone', 'detection', 'segmentation' or 'classification'.
        outputs: names of the results, in order.
        reading: what the json beside the file says about how results are read, where that differs.
    """

    task: str
    outputs: tuple[str, ...]
    reading: dict[str, Any]
    model: Any  # of a toolkit, without type hints
    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.size = size
        self.reading = {}
        backbone = model.backbone
        deployed = backbone.deploy(size, choices='linear') if isinstance(backbone, FasterViT) else None
        model.backbone = nn.Identity() if deployed is not None else backbone
        try:
            self.model = copy.deepcopy(model)
        finally:
            model.backbone = backbone
        if deployed is not None:
            self.model.backbone = deployed
        preprocessor = model.data_preprocessor
        self.register_buffer('mean', preprocessor.mean.detach().clone().reshape(1, -1, 1, 1))
        self.register_buffer('std', preprocessor.std.detach().clone().reshape(1, -1, 1, 1))
        # both are in the order of the model's channels, which is RGB where BGR is converted
        converted = getattr(preprocessor, '_channel_conversion', False) or getattr(
            preprocessor, 'to_rgb', False
        )
        self.is_bgr = not converted
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, channels), colors in RGB, uint8 or float -> :attr:`outputs`."""
        return self.compute(self.normalize(images))

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize pixels (B, H, W, channels), RGB, to (B, channels, H, W) in the model's order."""
        x = images.to(self.mean.dtype).permute(0, 3, 1, 2)
        if self.is_bgr:
            x = x.flip(1)
        return (x - self.mean) / self.std

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the results of normalized images (B, channels, H, W)."""
        raise NotImplementedError


class BackboneGraph(Graph):
    """The backbone's maps, ``stage1`` and so on, (B, C, H, W)."""

    task = 'backbone'

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        super().__init__(model, size)
        self.model = self.model.backbone
        indices = getattr(model.backbone, 'out_indices', (0, 1, 2, 3))
        self.outputs = tuple(f'stage{i + 1}' for i in indices)

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> maps."""
        return tuple(self.model(x))


class ClassifierGraph(Graph):
    """``scores`` (B, classes), probabilities."""

    task, outputs = 'classification', ('scores',)

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        if size is None:
            raise UserError('--dynamic: a classifier crops images to one size: give it as --size')
        super().__init__(model, size)

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> probabilities."""
        return (self.model.head(self.model.extract_feat(x)).softmax(1),)


class SegmenterGraph(Graph):
    """``logits`` (B, classes, h, w) of the decode head, and ``label_map`` (B, H, W), uint8 or int32."""

    task, outputs = 'segmentation', ('logits', 'label_map')

    def __init__(self, model: Any, size: tuple[int, int] | None) -> None:
        super().__init__(model, size)
        head = self.model.decode_head
        if model.test_cfg.get('mode', 'whole') != 'whole':
            raise UserError(
                "test_cfg.mode 'slide' cuts images into crops: export the whole image with --cfg-options "
                'model.test_cfg.mode=whole, and use fastervit predict --tile for large images'
            )
        if isinstance(head, nn.ModuleList) or head.out_channels == 1:
            raise UserError('export knows segmenters with one decode head and a channel for each class')

    def compute(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W) -> logits and label map."""
        head = self.model.decode_head
        logits = head(self.model.extract_feat(x))
        full = F.interpolate(logits, x.shape[2:], mode='bilinear', align_corners=head.align_corners)
        return logits, self.choose(full)

    def choose(self, logits: Tensor) -> Tensor:
        """Return the class of each pixel: (B, C, H, W) -> (B, H, W), uint8 or int32."""
        return logits.argmax(1).to(torch.uint8 if logits.shape[1] < 256 else torch.int32)
