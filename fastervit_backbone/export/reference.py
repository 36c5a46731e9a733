"""What the model itself, in its toolkit, computes from the images that an exported file gets."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..engine.samples import found_in
from ..inference.inputs import build_test_pipeline, pixels_of_config
from ..structures.prediction import Prediction
from .detectors import DetectorGraph
from .graph import Graph
from .mask2former import Mask2FormerSegmenterGraph


class Reference:
    """The model without any change, on prepared images.

    Args:
        model: of mmdet, mmseg or mmpretrain, in eval mode.
        config: of the model.
        graph: tells the task and the order of the channels.
    """

    def __init__(self, model: Any, config: Config, graph: Graph) -> None:
        self.model, self.config, self.graph = model, config, graph
        self.pixels = pixels_of_config(config)

    @torch.inference_mode()
    def arrays(self, canvas: np.ndarray) -> dict[str, np.ndarray]:
        """Compute what can be compared number by number: maps, logits or probabilities of a canvas."""
        x = self._normalize(canvas)
        match self.graph.task:
            case 'backbone':
                results = dict(zip(self.graph.outputs, self.model.backbone(x), strict=True))
            case 'classification':
                results = dict(scores=self.model(x, mode='tensor').softmax(1))
            case 'segmentation':
                results = dict(logits=self._logits(x))
            case _:
                return {}
        return {name: value[0].numpy() for name, value in results.items()}

    @torch.inference_mode()
    def predict(self, canvas: np.ndarray, inner: tuple[int, int], size: tuple[int, int]) -> Prediction:
        """Predict on an image.

        Args:
            canvas: (H, W, channels), colors in RGB, with padding.
            inner: (height, width) of the image in it.
            size: (height, width) of the image itself, to which the result is scaled.
        """
        x, (height, width) = self._normalize(canvas), canvas.shape[:2]
        if isinstance(self.graph, DetectorGraph):
            x = self.graph.padded(x)
        if self.graph.task == 'classification':
            return Prediction.of_classes(size, self.model(x, mode='tensor').softmax(1)[0].numpy())
        # the padding is part of the image, where mmdet cannot paste masks of boxes beyond it
        scales = inner[0] / size[0], inner[1] / size[1]
        whole = (math.ceil(height / scales[0]), math.ceil(width / scales[1]))
        of_image = self.graph.task == 'segmentation' or 'queries' in self.graph.reading
        metainfo = dict(
            ori_shape=size if of_image else whole,
            img_shape=inner if 'queries' in self.graph.reading else (height, width),
            pad_shape=tuple(x.shape[2:]),
            batch_input_shape=tuple(x.shape[2:]),
            scale_factor=scales[::-1],
            img_padding_size=(0, width - inner[1], 0, height - inner[0]),
        )
        (result,) = self.model.predict(x, [_sample(self.config.default_scope, metainfo)])
        if 'masks' in result.get('pred_instances', {}):
            result.pred_instances.masks = result.pred_instances.masks[:, : size[0], : size[1]]
        if self.graph.task == 'segmentation':
            count = result.seg_logits.data.shape[0]
        else:
            count = getattr(getattr(self.model, 'panoptic_fusion_head', None), 'num_classes', 0)
        return found_in(result, size, count).within_image()

    def _logits(self, x: Tensor) -> Tensor:
        """Return the decode head's result; that of a Mask2Former has the size of the image."""
        if isinstance(self.graph, Mask2FormerSegmenterGraph):
            shape = (x.shape[2], x.shape[3])
            return self.model.encode_decode(x, [dict(img_shape=shape, pad_shape=shape, ori_shape=shape)])
        return self.model(x, mode='tensor')

    def canvas(self, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """Prepare an image as the config's test pipeline does for a classifier; else None.

        Args:
            pixels: the image.
            size: (height, width) of the file's images; other than the config's, as ``predict --size``.
        """
        if self.graph.task != 'classification':
            return None
        for of_config in (None, size):
            steps = Compose(build_test_pipeline(self.config, of_config))
            image = np.ascontiguousarray(pixels)
            data = steps(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], img_path=''))
            canvas = data['inputs'].permute(1, 2, 0).numpy()
            canvas = canvas[..., ::-1] if self.pixels.is_color else canvas
            if canvas.shape[:2] == size:
                break
        return canvas

    def _normalize(self, canvas: np.ndarray) -> Tensor:
        return self.graph.normalize(torch.from_numpy(canvas.copy())[None])


def _sample(scope: str, metainfo: dict) -> BaseDataElement:
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample as DataSample
    else:
        from mmdet.structures import DetDataSample as DataSample
    return DataSample(metainfo=metainfo)


def layers_of(graph: Graph, images: Tensor, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Compute the graph eagerly and return the result of each named module that ran once with one tensor."""
    seen: dict[str, np.ndarray] = {}
    repeated: set[str] = set()
    hooks, wanted = [], set(names)
    for name, module in graph.named_modules():
        if name in wanted:

            def keep(_: nn.Module, __: object, result: object, name: str = name) -> None:
                if name in seen:
                    repeated.add(name)
                if isinstance(result, Tensor):
                    seen[name] = result.detach().numpy().copy()

            hooks.append(module.register_forward_hook(keep))
    try:
        with torch.inference_mode():
            graph(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: value for name, value in seen.items() if name not in repeated}
