"""One interface for detection, instance and semantic segmentation, and classification."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from ..checkpoints.model_folder import one_line, resolve_model
from ..datasets.images import ImageLike, as_pixels
from ..datasets.pixel_format import PixelFormat, resize_pixels
from ..structures.prediction import Categories, Prediction
from ..utils.errors import UserError
from ..utils.log import log
from ..utils.suggest import did_you_mean
from .exported import ExportedModel
from .exported_formats import is_exported
from .tiles import Box, merge_label_maps, merge_objects, tile_boxes

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config
    from mmengine.model import BaseModel

    from .toolkit_model import ToolkitModel


#: Argument -> why an exported file does not take it.
_FIXED = dict(
    size='was exported for images of one size, or of any: export it again with another --size',
    amp='has the precision that it was exported with: --half and --int8 of fastervit export change it',
    deploy='is exported in deploy mode already: leave the option out',
    compile='is compiled by its runtime: leave the option out',
    options='has no config: export it again with these options',
)


class Predictor:
    """A trained model that predicts on images: ``Predictor(config, checkpoint)(['a.jpg', 'b.png'])``.

    An exported file is a model, too: ``Predictor('model.onnx')``. It needs neither torch nor the toolkits.

    Args:
        config: config that the model was trained with, an exported file (.onnx, .xml, .pt2), or a folder of
            fastervit publish (here, or ``hf://user/name``).
        checkpoint: file, URL, or a work dir (its last checkpoint); None where ``config`` is all.
        device: 'cpu', 'cuda' or 'cuda:1'; None: CUDA if available. An ONNX file also has 'tensorrt'.
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
        compile: ``torch.compile`` the backbone; needs a C++ compiler.
        options: changes of the config, dotted paths and values, as in ``--cfg-options``.

    Attributes:
        seconds: time spent so far in ``load`` (reading files) and ``model`` (preprocessing, model, masks).

    Raises:
        UserError: bad config, options, checkpoint or arguments.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path | None = None,
        *,
        device: 'str | torch.device | None' = None,
        threshold: float = 0.3,
        classes: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
        amp: bool = False,
        deploy: bool = False,
        compile: bool = False,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise UserError(f'threshold {threshold}: must be between 0 and 1')
        if tile is not None:
            tile_boxes((1, 1), tile, overlap)  # raises on bad values
        arguments: dict[str, Any] = dict(size=size, amp=amp, deploy=deploy, compile=compile, options=options)
        self._model: ExportedModel | ToolkitModel
        if is_exported(config):
            if checkpoint is not None:
                raise UserError(f'{config} is a whole model: leave out the checkpoint {checkpoint}')
            given = [name for name, value in arguments.items() if value]
            if given:
                raise UserError(f'{given[0]}: {config} {_FIXED[given[0]]}')
            self._model = ExportedModel(config, None if device is None else str(device))
        else:
            config, checkpoint = resolve_model(config, checkpoint)
            from . import toolkit_model  # an exported file needs no torch

            with one_line(config):
                self._model = toolkit_model.ToolkitModel(
                    config, checkpoint, device=device, threshold=threshold, **arguments
                )
        self._config = config
        self.threshold, self.tile, self.overlap = threshold, tile, overlap
        self.seconds = dict(load=0.0, model=0.0)
        if self.classification and tile is not None:
            raise UserError(f'tile {tile}: a classifier sees the whole image, leave tiles out')
        if self.categories.num_things is not None and tile is not None:
            raise UserError(f'tile {tile}: a panoptic model sees the whole image, leave tiles out')
        self._labels = _labels_of(classes, self.categories.names)

    @property
    def categories(self) -> Categories:
        """Names and ids of the classes."""
        return self._model.categories

    @property
    def device(self) -> 'torch.device | str':
        """Where the model runs."""
        return self._model.device

    @property
    def config(self) -> 'Config':
        """The config, with ``options`` applied."""
        return self._toolkit().config

    @property
    def model(self) -> 'BaseModel':
        """The whole model."""
        return self._toolkit().model

    @property
    def classification(self) -> bool:
        """Whether the model predicts classes of whole images."""
        return self._model.task == 'classification'

    @property
    def semantic(self) -> bool:
        """Whether the model predicts label maps."""
        return self._model.task == 'segmentation'

    @property
    def batch(self) -> int:
        """Images in a call: those of an exported file, else 1."""
        return (self._model.batch or 1) if isinstance(self._model, ExportedModel) else 1

    @property
    def pixels(self) -> PixelFormat:
        """How images are read: as colors, or all their channels."""
        return self._model.pixels

    def settings(self) -> dict[str, str]:
        """Return what results depend on, as digests of the files."""
        return self._model.settings()

    def image_ids(self) -> Mapping[str, int]:
        """Map the real path of each image of the config's test data set to its id."""
        return self._model.image_ids()

    def _toolkit(self) -> 'ToolkitModel':
        if isinstance(self._model, ExportedModel):
            raise UserError(
                f'{self._model.path} is an exported file: this needs the config and the checkpoint'
            )
        return cast('ToolkitModel', self._model)

    def __call__(self, images: Sequence[ImageLike], batch: int = 1) -> list[Prediction]:
        """Predict on images.

        Args:
            images: files, Pillow images, or arrays: of colors (H, W, 3), uint8 or uint16, RGB; for a model of
                other channels (H, W, channels), in the numbers that it was trained with.
            batch: images per batch.

        Returns:
            one prediction per image, in pixels of that image.

        Raises:
            UserError: a file cannot be read as an image.
        """
        start = time.perf_counter()
        pixels = [as_pixels(image, self.pixels) for image in images]
        self.seconds['load'] += time.perf_counter() - start
        return self.predict_pixels(pixels, batch)

    def predict_pixels(self, pixels: Sequence[np.ndarray], batch: int = 1) -> list[Prediction]:
        """Predict on arrays of ``read_image``; otherwise like :meth:`__call__`."""
        if batch < 1:
            raise UserError(f'batch {batch}: must be at least 1')
        count = 3 if self.pixels.is_color else self.pixels.channels
        for image in pixels:
            if image.ndim != 3 or image.shape[2] != count:
                raise UserError(f'the model reads images (H, W, {count}), and got {image.shape}')
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
        return Image.fromarray(
            np.ascontiguousarray(self.picture(as_pixels(image, self.pixels), prediction)[..., ::-1])
        )

    def picture(self, pixels: np.ndarray, prediction: Prediction) -> np.ndarray:
        """Draw a prediction on pixels of ``read_image``; returns (H, W, 3), uint8, BGR."""
        from ..visualization.draw import draw  # needs more packages than predictions do

        return draw(self.pixels.picture(pixels), prediction, self.categories)

    def prepare(self, pixels: np.ndarray) -> 'tuple[torch.Tensor, tuple[int, int]]':
        """Prepare an image for the backbone.

        Args:
            pixels: as ``read_image`` returns them.

        Returns:
            (1, channels, H', W') on the model's device, and its (height, width) without padding.

        Raises:
            UserError: a side is too short for the backbone, or an exported file.
        """
        return self._toolkit().prepare(pixels)

    def _predict_in_tiles(self, pixels: np.ndarray, batch: int) -> Prediction:
        assert self.tile is not None
        height, width = size = pixels.shape[:2]
        tiles = tile_boxes(size, self.tile, self.overlap)
        if self.semantic:

            def predict(box: Box) -> np.ndarray:
                label_map = self._infer([_crop(pixels, box)])[0].label_map
                assert label_map is not None
                return label_map

            return Prediction.of_label_map(merge_label_maps(size, tiles, predict), len(self.categories.names))
        # also the whole image, reduced to the size of a tile: masks of that size fit into memory
        scale = self.tile / max(size)
        small = resize_pixels(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))
        whole = []
        if self._model.accepts(small):
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
        """Run the model on images without tiling."""
        with one_line(self._config):
            return self._model.infer(pixels, self.threshold, self._labels)


def _crop(pixels: np.ndarray, box: Box) -> np.ndarray:
    y1, x1, y2, x2 = box
    return pixels[y1:y2, x1:x2]


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
