"""One front for detection, instance and semantic segmentation."""

import difflib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from PIL import Image, ImageOps
from torch import nn

from ..checkpoints.io import log
from ..models.fastervit import STRIDES, FasterViT
from ..structures.prediction import Prediction, encode_mask
from ..utils.errors import UserError
from ..visualization.draw import draw
from .load_model import default_device, load_model, test_dataset
from .sources import read_image
from .tiles import Box, merge_label_maps, merge_objects, tile_boxes


class Predictor:
    """A trained model on images: ``Predictor(config, checkpoint)(['a.jpg', 'b.png'])``.

    Args:
        config: the config that it was trained with.
        checkpoint: a file, a URL, or a work dir (its last checkpoint).
        device: 'cpu', 'cuda', 'cuda:1'; None: CUDA where there is a device.
        threshold: least score of an object, 0..1. Evaluation uses all of them: 0.
        classes: names; only these objects (or regions) are given. None: all.
        size: (H, W) that images are fitted into before the model sees them; None: as the config's test pipeline says.
        tile: side in pixels of overlapping pieces that a larger image is cut into; each is prepared as an image. For objects
            the whole image is looked at once more, for those larger than a piece. None: images are looked at whole.
        overlap: least part of a tile that its neighbour shows too, [0, 1).
        amp: the backbone in autocast, bfloat16 (float16 on a GPU without it); the rest stays in float32.
        deploy: run the backbone's copy for inference (:meth:`~fastervit_backbone.FasterViT.deploy`).
        options: changes of the config, dotted paths and values, as ``--cfg-options``.

    Attributes:
        categories: names and ids of the classes.
        config: as read and changed.
        model: the whole model.
        seconds: spent so far, ``load`` (reading files) and ``model`` (preparing, computing, masks).

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
            raise UserError(f'threshold {threshold}: scores are from 0 to 1')
        if tile is not None:
            tile_boxes((1, 1), tile, overlap)  # raises on bad values
        self.device = _check_device(device)
        self.model, self.config, self.categories = load_model(config, checkpoint, options, threshold)
        self.threshold, self.tile, self.overlap = threshold, tile, overlap
        self.seconds = dict(load=0.0, model=0.0)
        self._chosen = _chosen(classes, self.categories.names)
        self._prepare = Compose(_pipeline(self.config, size))
        self.model.to(self.device)
        if deploy:
            if not isinstance(self.model.backbone, FasterViT):
                raise UserError(
                    f'deploy: the backbone of {config} is {type(self.model.backbone).__name__}, which has no deploy mode'
                )
            self.model.backbone = self.model.backbone.deploy()
        if amp:
            self.model.backbone = _HalfPrecision(self.model.backbone, self.device)

    @property
    def semantic(self) -> bool:
        """Whether it gives label maps."""
        return self.config.get('default_scope') == 'mmseg'

    def __call__(
        self, images: Sequence[str | Path | np.ndarray | Image.Image], batch: int = 1
    ) -> list[Prediction]:
        """Predict.

        Args:
            images: files, Pillow images, or arrays (H, W, 3), uint8, RGB.
            batch: images that the model sees at a time.

        Returns:
            one prediction for each, in pixels of the image.

        Raises:
            UserError: a file that cannot be read as an image.
        """
        start = time.perf_counter()
        pixels = [_as_bgr(image) for image in images]
        self.seconds['load'] += time.perf_counter() - start
        return self.predict_pixels(pixels, batch)

    def predict_pixels(self, pixels: Sequence[np.ndarray], batch: int = 1) -> list[Prediction]:
        """As calling, of arrays (H, W, 3), uint8, BGR."""
        if batch < 1:
            raise UserError(f'batch {batch}: at least 1')
        start = time.perf_counter()
        results: list[Prediction] = []
        for i in range(0, len(pixels), batch):
            group = pixels[i : i + batch]
            cut = [self.tile is not None and max(p.shape[:2]) > self.tile for p in group]
            whole = [p for p, c in zip(group, cut, strict=True) if not c]
            found = iter(self._infer(whole) if whole else ())
            results += [
                self._in_tiles(p, batch) if c else next(found) for p, c in zip(group, cut, strict=True)
            ]
        self.seconds['model'] += time.perf_counter() - start
        return results

    def draw(self, image: str | Path | np.ndarray | Image.Image, prediction: Prediction) -> Image.Image:
        """A picture of a prediction (see :func:`~fastervit_backbone.visualization.draw.draw`)."""
        return Image.fromarray(
            np.ascontiguousarray(draw(_as_bgr(image), prediction, self.categories)[..., ::-1])
        )

    def prepare(self, pixels: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        """What the backbone sees of an image.

        Args:
            pixels: (H, W, 3), uint8, BGR.

        Returns:
            (1, 3, H', W') on the model's device, and the (height, width) of it that is image and not padding.
        """
        data = self._prepared(pixels)
        batch = self.model.data_preprocessor(
            dict(inputs=[data['inputs']], data_samples=[data['data_samples']]), False
        )
        return batch['inputs'], tuple(data['inputs'].shape[1:])

    def _in_tiles(self, pixels: np.ndarray, batch: int) -> Prediction:
        size = pixels.shape[:2]
        tiles = tile_boxes(size, self.tile, self.overlap)
        if self.semantic:
            label_map = merge_label_maps(
                size, tiles, lambda box: self._infer([_crop(pixels, box)])[0].label_map
            )
            return _label_map(label_map)
        # and all of it, as large as a tile: masks of that size fit into memory
        part = self.tile / max(size)
        small = cv2.resize(
            pixels, [max(1, round(side * part)) for side in size[::-1]], interpolation=cv2.INTER_AREA
        )
        whole = [] if self._is_too_narrow(small) else [self._infer([small])[0].resize(size)]
        if not whole:
            log(
                f'an image of {size[1]}x{size[0]} pixels is too narrow to be looked at whole: objects larger than a tile may be missed'
            )
        found: list[Prediction] = []
        for i in range(0, len(tiles), batch):
            found += self._infer([_crop(pixels, box) for box in tiles[i : i + batch]])
        return merge_objects(size, tiles + [(0, 0, *size)] * len(whole), found + whole)

    def _infer(self, pixels: Sequence[np.ndarray]) -> list[Prediction]:
        """Whole images through the model, together where it takes them together."""
        data = [self._prepared(p) for p in pixels]
        groups = [data]
        if self.semantic and len({d['inputs'].shape for d in data}) > 1:  # mmseg stacks them as they are
            groups = [[d] for d in data]
        samples: list[BaseDataElement] = []
        with torch.inference_mode():
            for group in groups:
                samples += self.model.test_step(
                    dict(inputs=[d['inputs'] for d in group], data_samples=[d['data_samples'] for d in group])
                )
        return [self._read(sample, p.shape[:2]) for sample, p in zip(samples, pixels, strict=True)]

    def _prepared(self, pixels: np.ndarray) -> dict:
        """Through the test pipeline.

        Raises:
            UserError: a side is too short for the backbone then.
        """
        data = self._through_pipeline(pixels)
        if data is None:
            height, width = pixels.shape[:2]
            raise UserError(
                f'an image of {width}x{height} pixels is too narrow: prepared, a side has less than {STRIDES[-1]} pixels'
            )
        return data

    def _is_too_narrow(self, pixels: np.ndarray) -> bool:
        return self._through_pipeline(pixels) is None

    def _through_pipeline(self, pixels: np.ndarray) -> dict | None:
        """An image prepared; None where a side is too short for the backbone then."""
        multiple = (
            1 if self.semantic else getattr(self.model.data_preprocessor, 'pad_size_divisor', 1)
        )  # mmdet pads to it
        try:
            data = self._prepare(dict(img=np.ascontiguousarray(pixels), img_id=0, img_path=''))
        except cv2.error:  # a side of 0 pixels
            return None
        sides = [-(-side // multiple) * multiple for side in data['inputs'].shape[1:]]
        return None if min(sides) < STRIDES[-1] else data

    def _read(self, sample: BaseDataElement, size: tuple[int, int]) -> Prediction:
        """mmdet's or mmseg's result as ours."""
        if self.semantic:
            label_map = sample.pred_sem_seg.data[0].cpu().numpy()
            wide = len(self.categories.names) > 255
            label_map = label_map.astype(np.uint16 if wide else np.uint8)
            if self._chosen is not None:
                label_map[~np.isin(label_map, self._chosen)] = np.iinfo(label_map.dtype).max
            return _label_map(label_map)
        found = sample.pred_instances
        kept = found.scores >= self.threshold
        if self._chosen is not None:
            kept &= torch.isin(found.labels, torch.tensor(self._chosen, device=kept.device))
        found = found[kept]
        found = found[found.scores.argsort(descending=True, stable=True)]
        masks = [encode_mask(mask.cpu().numpy()) for mask in found.masks] if 'masks' in found else None
        return Prediction(
            tuple(size),
            found.bboxes.float().cpu().numpy(),
            found.scores.float().cpu().numpy(),
            found.labels.cpu().numpy(),
            masks,
        )


class _HalfPrecision(nn.Module):
    """A backbone under autocast that gives float32: necks and heads after it stay exact, and mmcv's NMS takes no bfloat16 on a CPU."""

    def __init__(self, backbone: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.backbone = backbone
        old_gpu = device.type == 'cuda' and not torch.cuda.is_bf16_supported()
        self.dtype = torch.float16 if old_gpu else torch.bfloat16

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(images.device.type, self.dtype):
            maps = self.backbone(images)
        return tuple(m.float() for m in maps)


def _label_map(label_map: np.ndarray) -> Prediction:
    return Prediction(
        label_map.shape,
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, int),
        None,
        label_map,
    )


def _crop(pixels: np.ndarray, box: Box) -> np.ndarray:
    y1, x1, y2, x2 = box
    return pixels[y1:y2, x1:x2]


def _as_bgr(image: str | Path | np.ndarray | Image.Image) -> np.ndarray:
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        image = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    if not (
        isinstance(image, np.ndarray)
        and image.ndim == 3
        and image.shape[2] == 3
        and image.dtype == np.uint8
        and image.size
    ):
        what = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(
            f'an image must be a file, a Pillow image or an array (H, W, 3), uint8, RGB, got {what}'
        )
    return np.ascontiguousarray(image[..., ::-1])


def _check_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return default_device()
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise UserError(f'device {device!r}: expected cpu, cuda or cuda:NUMBER') from error
    if device.type not in ('cpu', 'cuda'):
        raise UserError(f"device {device}: cpu and cuda are what the detectors' operators run on")
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f'device {device}: torch sees {torch.cuda.device_count()} CUDA devices here')
    return device


def _chosen(classes: Sequence[str] | None, names: Sequence[str]) -> list[int] | None:
    if classes is None:
        return None
    for name in classes:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = (
                f'did you mean {near[0]!r}?'
                if near
                else f'they are {", ".join(names[:20])}{", ..." if len(names) > 20 else ""}'
            )
            raise UserError(f'the model has no class {name!r}: {meant}')
    return [names.index(name) for name in classes]


def _pipeline(config: Config, size: tuple[int, int] | None) -> list[dict]:
    """The test pipeline from an image in memory on, without ground truth."""
    steps = [dict(step) for step in test_dataset(config).get('pipeline') or config.get('test_pipeline') or ()]
    if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
        raise UserError(f'{config.filename}: the test pipeline must start with LoadImageFromFile')
    first = {k: v for k, v in steps[0].items() if k != 'backend_args'}
    steps = [first | dict(type='LoadImageFromNDArray')] + [
        s for s in steps[1:] if not s['type'].endswith('Annotations')
    ]
    if size is not None:
        if min(size) < 32:
            raise UserError(f'size {size[0]}x{size[1]}: at least 32x32')
        resizes = [s for s in steps if s['type'].endswith('Resize')]
        for step in resizes:
            step['scale'] = (size[1], size[0])
            step.pop('scale_factor', None)
        if not resizes:  # before the images are packed
            steps.insert(1, dict(type='Resize', scale=(size[1], size[0]), keep_ratio=True))
    return steps
