"""A model of mmdet, mmseg or mmpretrain that predicts on pixels."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from torch import nn

from ..engine.runner.work_dir import find_checkpoint
from ..engine.samples import found_in
from ..models.compiled import compile_backbone
from ..models.fastervit import STRIDES, FasterViT
from ..structures.prediction import Prediction
from ..utils.errors import UserError
from ..utils.files import digest_of
from .inputs import build_test_pipeline, pixels_of_config
from .load_model import default_device, load_model, task_of, test_dataset, test_image_ids


class ToolkitModel:
    """A config and a checkpoint, see :class:`~.predictor.Predictor`.

    Attributes:
        config: with ``options`` applied.
        model: the whole model.
        device: where it runs.
        categories: names and ids of the classes.
        task: 'detection', 'segmentation' or 'classification'.
        pixels: how images are read.

    Raises:
        UserError: bad config, options, checkpoint or arguments.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        *,
        device: str | torch.device | None,
        threshold: float,
        size: tuple[int, int] | None,
        amp: bool,
        deploy: bool,
        compile: bool,
        options: Mapping[str, object] | None,
    ) -> None:
        self.device, self.checkpoint = _check_device(device), find_checkpoint(checkpoint)
        self.model, self.config, self.categories = load_model(config, self.checkpoint, options, threshold)
        self.task = task_of(self.config)
        self.pixels = pixels_of_config(self.config)
        self._pipeline = Compose(build_test_pipeline(self.config, size))
        self.model.to(self.device)
        if deploy:
            backbone = self.model.backbone
            if not isinstance(backbone, FasterViT):
                raise UserError(
                    f'deploy: the backbone of {config} is {type(backbone).__name__}, which has no deploy mode'
                )
            self.model.backbone = backbone.deploy()
        if compile:
            compile_backbone(self.model, self.device)
        if amp:
            self.model.backbone = _HalfPrecision(self.model.backbone, self.device)

    def settings(self) -> dict[str, str]:
        """Return what results depend on: digests of the weights, and of the config's model and pipeline."""
        pipeline = test_dataset(self.config).get('pipeline')
        config = repr((self.config.model.to_dict(), pipeline, self.categories))
        return dict(
            checkpoint=digest_of(self.checkpoint),
            config=hashlib.sha256(config.encode()).hexdigest()[:16],
        )

    def image_ids(self) -> dict[str, int]:
        """Map the real path of each image of the config's test data set to its id."""
        return test_image_ids(self.config)

    def prepare(self, pixels: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        """Prepare an image for the backbone.

        Args:
            pixels: as :func:`~fastervit_backbone.datasets.images.read_image` returns them.

        Returns:
            (1, channels, H', W') on the model's device, and its (height, width) without padding.

        Raises:
            UserError: a side is too short for the backbone.
        """
        data = self._preprocess(pixels)
        batch = dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
        height, width = data['inputs'].shape[1:]
        return self.model.data_preprocessor(batch, False)['inputs'], (height, width)

    def infer(
        self, pixels: Sequence[np.ndarray], threshold: float, labels: Sequence[int] | None
    ) -> list[Prediction]:
        """Run the model on images, in one batch if it supports that.

        Args:
            pixels: the images.
            threshold: lowest score of an object.
            labels: indices of the classes to keep; None: all.

        Raises:
            UserError: a side of an image is too short for the backbone.
        """
        data = [self._preprocess(image) for image in pixels]
        # of one shape: beside a larger image, one would be padded, and other objects found in it
        groups: dict[torch.Size, list[int]] = {}
        for number, item in enumerate(data):
            groups.setdefault(item['inputs'].shape, []).append(number)
        samples: dict[int, BaseDataElement] = {}
        with torch.inference_mode():
            for numbers in groups.values():
                batch = {key: [data[i][key] for i in numbers] for key in ('inputs', 'data_samples')}
                samples |= zip(numbers, self.model.test_step(batch), strict=True)
        return [self._convert(samples[i], p.shape[:2], threshold, labels) for i, p in enumerate(pixels)]

    def _preprocess(self, pixels: np.ndarray) -> dict:
        """Apply the test pipeline.

        Raises:
            UserError: a side of the result is too short for the backbone.
        """
        data = self._apply_pipeline(pixels)
        if data is None:
            height, width = pixels.shape[:2]
            raise UserError(
                f'an image of {width}x{height} pixels is too narrow: '
                f'after preprocessing, a side has less than {STRIDES[-1]} pixels'
            )
        return data

    def _apply_pipeline(self, pixels: np.ndarray) -> dict | None:
        """Apply the test pipeline; None if a side of the result is too short for the backbone."""
        # mmdet pads images to a multiple of this
        divisor = (
            1 if self.task == 'segmentation' else getattr(self.model.data_preprocessor, 'pad_size_divisor', 1)
        )
        try:
            data = self._pipeline(
                dict(
                    img=np.ascontiguousarray(pixels),
                    img_shape=pixels.shape[:2],
                    ori_shape=pixels.shape[:2],
                    img_id=0,
                    img_path='',
                )
            )
        except cv2.error:  # a side of 0 pixels
            return None
        sides = [-(-side // divisor) * divisor for side in data['inputs'].shape[1:]]
        return None if min(sides) < STRIDES[-1] else data

    def accepts(self, pixels: np.ndarray) -> bool:
        """Whether the sides of an image are long enough for the backbone."""
        return self._apply_pipeline(pixels) is not None

    def _convert(
        self, sample: BaseDataElement, size: tuple[int, int], threshold: float, labels: Sequence[int] | None
    ) -> Prediction:
        """Convert a result of mmdet, mmseg or mmpretrain."""
        return found_in(sample, size, len(self.categories.names), threshold, labels)


class _HalfPrecision(nn.Module):
    """A backbone under autocast that returns float32.

    Necks and heads after it stay exact, and mmcv's NMS supports no bfloat16 on a CPU.
    """

    def __init__(self, backbone: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.backbone = backbone
        has_bfloat16 = device.type != 'cuda' or torch.cuda.is_bf16_supported()
        self.dtype = torch.bfloat16 if has_bfloat16 else torch.float16

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(images.device.type, self.dtype):
            maps = self.backbone(images)
        return tuple(m.float() for m in maps)


def _check_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return default_device()
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise UserError(f'device {device!r}: expected cpu, cuda or cuda:NUMBER') from error
    if device.type not in ('cpu', 'cuda'):
        raise UserError(f"device {device}: the detectors' operators run only on cpu and cuda")
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f'device {device}: torch finds {torch.cuda.device_count()} CUDA devices')
    return device
