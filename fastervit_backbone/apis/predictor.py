"""One interface for detection, instance and semantic segmentation, and classification."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import nn

from fastervit_cli.suggest import did_you_mean

from ..checkpoints.io import log
from ..models.fastervit import STRIDES, FasterViT
from ..structures.prediction import Prediction, encode_mask
from ..utils.errors import UserError
from ..visualization.draw import draw
from .inputs import ImageLike, as_bgr, build_test_pipeline
from .load_model import default_device, load_model
from .tiles import Box, merge_label_maps, merge_objects, tile_boxes

#: Classes that a classifier names for an image.
TOP = 5


class Predictor:
    """A trained model that predicts on images: ``Predictor(config, checkpoint)(['a.jpg', 'b.png'])``.

    Args:
        config: config that the model was trained with.
        checkpoint: file, URL, or a work dir (its last checkpoint).
        device: 'cpu', 'cuda' or 'cuda:1'; None: CUDA if available.
        threshold: lowest score of an object, 0..1; 0 keeps all objects, as evaluation does. A classifier
            names the five most probable classes whatever their score.
        classes: names of the classes to predict; None: all.
        size: (H, W) that images are resized to fit into (classifiers: to exactly that size); None: as in the
            config's test pipeline.
        tile: side in pixels of the overlapping tiles that larger images are split into; each tile is prepared
            like an image. Detectors also see the whole image, for objects larger than a tile. None: no tiles.
        overlap: minimum overlap of neighboring tiles as a fraction of their side, [0, 1).
        amp: autocast the backbone to bfloat16 (float16 on a GPU without it); the rest stays in float32.
        deploy: run the backbone in deploy mode (:meth:`~fastervit_backbone.FasterViT.deploy`).
        options: changes of the config, dotted paths and values, as in ``--cfg-options``.

    Attributes:
        categories: names and ids of the classes.
        config: the config with ``options`` applied.
        model: the whole model.
        seconds: time spent so far in ``load`` (reading files) and ``model`` (preprocessing, model, masks).

    Raises:
        UserError: bad config, options, checkpoint or arguments.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        *,
        device: str | torch.device | None = None,
        threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
        amp: bool = False,
        deploy: bool = False,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise UserError(f'threshold {threshold}: must be between 0 and 1')
        if tile is not None:
            tile_boxes((1, 1), tile, overlap)  # raises on bad values
        self.device = _check_device(device)
        self.model, self.config, self.categories = load_model(config, checkpoint, options, threshold)
        self.threshold, self.tile, self.overlap = threshold, tile, overlap
        self.seconds = dict(load=0.0, model=0.0)
        if self.classification and tile is not None:
            raise UserError(f'tile {tile}: a classifier sees the whole image, leave tiles out')
        self._labels = _labels_of(classes, self.categories.names)
        self._pipeline = Compose(build_test_pipeline(self.config, size))
        self.model.to(self.device)
        if deploy:
            backbone = self.model.backbone
            if not isinstance(backbone, FasterViT):
                raise UserError(
                    f'deploy: the backbone of {config} is {type(backbone).__name__}, which has no deploy mode'
                )
            self.model.backbone = backbone.deploy()
        if amp:
            self.model.backbone = _HalfPrecision(self.model.backbone, self.device)

    @property
    def classification(self) -> bool:
        """Whether the model predicts classes of whole images."""
        return self.config.get('default_scope') == 'mmpretrain'

    @property
    def semantic(self) -> bool:
        """Whether the model predicts label maps."""
        return self.config.get('default_scope') == 'mmseg'

    def __call__(self, images: Sequence[ImageLike], batch: int = 1) -> list[Prediction]:
        """Predict on images.

        Args:
            images: files, Pillow images, or arrays (H, W, 3), uint8, RGB.
            batch: images per batch.

        Returns:
            one prediction per image, in pixels of that image.

        Raises:
            UserError: a file cannot be read as an image.
        """
        start = time.perf_counter()
        pixels = [as_bgr(image) for image in images]
        self.seconds['load'] += time.perf_counter() - start
        return self.predict_pixels(pixels, batch)

    def predict_pixels(self, pixels: Sequence[np.ndarray], batch: int = 1) -> list[Prediction]:
        """Predict on arrays (H, W, 3), uint8, BGR; otherwise like :meth:`__call__`."""
        if batch < 1:
            raise UserError(f'batch {batch}: must be at least 1')
        start = time.perf_counter()
        results: list[Prediction] = []
        for i in range(0, len(pixels), batch):
            group = pixels[i : i + batch]
            tiled = [self.tile is not None and max(image.shape[:2]) > self.tile for image in group]
            small = [image for image, is_tiled in zip(group, tiled, strict=True) if not is_tiled]
            untiled = iter(self._infer(small) if small else ())
            for image, is_tiled in zip(group, tiled, strict=True):
                results.append(self._predict_in_tiles(image, batch) if is_tiled else next(untiled))
        self.seconds['model'] += time.perf_counter() - start
        return results

    def draw(self, image: ImageLike, prediction: Prediction) -> Image.Image:
        """Draw a prediction on its image (see :func:`~fastervit_backbone.visualization.draw.draw`)."""
        picture = draw(as_bgr(image), prediction, self.categories)
        return Image.fromarray(np.ascontiguousarray(picture[..., ::-1]))

    def prepare(self, pixels: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        """Prepare an image for the backbone.

        Args:
            pixels: (H, W, 3), uint8, BGR.

        Returns:
            (1, 3, H', W') on the model's device, and its (height, width) without padding.

        Raises:
            UserError: a side is too short for the backbone.
        """
        data = self._preprocess(pixels)
        batch = dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
        height, width = data['inputs'].shape[1:]
        return self.model.data_preprocessor(batch, False)['inputs'], (height, width)

    def _predict_in_tiles(self, pixels: np.ndarray, batch: int) -> Prediction:
        assert self.tile is not None
        height, width = size = pixels.shape[:2]
        tiles = tile_boxes(size, self.tile, self.overlap)
        if self.semantic:

            def predict(box: Box) -> np.ndarray:
                label_map = self._infer([_crop(pixels, box)])[0].label_map
                assert label_map is not None
                return label_map

            return _semantic_prediction(merge_label_maps(size, tiles, predict))
        # also the whole image, reduced to the size of a tile: masks of that size fit into memory
        scale = self.tile / max(size)
        small_size = [max(1, round(width * scale)), max(1, round(height * scale))]
        small = cv2.resize(pixels, small_size, interpolation=cv2.INTER_AREA)
        whole = []
        if self._apply_pipeline(small) is not None:
            whole = [self._infer([small])[0].resize(size)]
        else:
            log(
                f'an image of {width}x{height} pixels is too narrow to be predicted as a whole: '
                'objects larger than a tile may be missed'
            )
        parts: list[Prediction] = []
        for i in range(0, len(tiles), batch):
            parts += self._infer([_crop(pixels, box) for box in tiles[i : i + batch]])
        return merge_objects(size, tiles + [(0, 0, height, width)] * len(whole), parts + whole)

    def _infer(self, pixels: Sequence[np.ndarray]) -> list[Prediction]:
        """Run the model on images without tiling, in one batch if it supports that."""
        data = [self._preprocess(image) for image in pixels]
        groups = [data]
        is_padded = not (self.semantic or self.classification)  # by mmdet; the others would see padding
        if not is_padded and len({item['inputs'].shape for item in data}) > 1:
            groups = [[item] for item in data]
        samples: list[BaseDataElement] = []
        with torch.inference_mode():
            for group in groups:
                batch = {key: [item[key] for item in group] for key in ('inputs', 'data_samples')}
                samples += self.model.test_step(batch)
        return [self._convert(sample, p.shape[:2]) for sample, p in zip(samples, pixels, strict=True)]

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
        divisor = 1 if self.semantic else getattr(self.model.data_preprocessor, 'pad_size_divisor', 1)
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

    def _convert(self, sample: BaseDataElement, size: tuple[int, int]) -> Prediction:
        """Convert a result of mmdet, mmseg or mmpretrain."""
        if self.classification:
            return self._most_probable(sample.pred_score.float().cpu().numpy(), size)
        if self.semantic:
            label_map = sample.pred_sem_seg.data[0].cpu().numpy()
            label_map = label_map.astype(np.uint16 if len(self.categories.names) > 255 else np.uint8)
            if self._labels is not None:
                label_map[~np.isin(label_map, self._labels)] = np.iinfo(label_map.dtype).max
            return _semantic_prediction(label_map)
        objects = sample.pred_instances
        keep = objects.scores >= self.threshold
        if self._labels is not None:
            keep &= torch.isin(objects.labels, torch.tensor(self._labels, device=keep.device))
        objects = objects[keep]
        objects = objects[objects.scores.argsort(descending=True, stable=True)]
        masks = [encode_mask(mask.cpu().numpy()) for mask in objects.masks] if 'masks' in objects else None
        boxes = objects.bboxes.float().cpu().numpy()
        scores = objects.scores.float().cpu().numpy()
        return Prediction(size, boxes, scores, objects.labels.cpu().numpy(), masks)

    def _most_probable(self, probabilities: np.ndarray, size: tuple[int, int]) -> Prediction:
        labels = np.argsort(-probabilities, kind='stable')
        if self._labels is not None:
            labels = labels[np.isin(labels, self._labels)]
        labels = labels[:TOP]
        no_boxes = np.zeros((0, 4), np.float32)
        return Prediction(size, no_boxes, probabilities[labels], labels, classification=True)


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


def _semantic_prediction(label_map: np.ndarray) -> Prediction:
    no_boxes, no_scores, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
    return Prediction(label_map.shape, no_boxes, no_scores, no_labels, label_map=label_map)


def _crop(pixels: np.ndarray, box: Box) -> np.ndarray:
    y1, x1, y2, x2 = box
    return pixels[y1:y2, x1:x2]


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


def _labels_of(classes: Sequence[str] | None, names: Sequence[str]) -> list[int] | None:
    """Return the indices of ``classes`` in ``names``; None for all."""
    if classes is None:
        return None
    for name in classes:
        if name not in names:
            listed = f'{", ".join(names[:20])}{", ..." if len(names) > 20 else ""}'
            raise UserError(
                f'the model has no class {name!r}{did_you_mean(name, names) or f" (its classes: {listed})"}'
            )
    return [names.index(name) for name in classes]
