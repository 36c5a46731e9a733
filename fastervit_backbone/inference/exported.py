"""An exported file that predicts on pixels, with nothing but its runtime, numpy and OpenCV."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..datasets.pixel_format import PixelFormat
from ..structures.prediction import Categories, Prediction, encode_mask
from ..utils.errors import UserError
from ..utils.files import digest_of
from .exported_arrays import label_map_of, paste_mask
from .exported_formats import format_of, weights_of
from .exported_info import info_path, read_info
from .exported_input import prepare
from .exported_masks import Geometry, masks_of_objects, prediction_of_queries
from .session import open_session


class ExportedModel:
    """A file written by ``fastervit export`` and the json beside it.

    Args:
        path: .onnx, .xml or .pt2.
        device: see :func:`~.session.open_session`.

    Attributes:
        info: content of the json.
        categories: names and ids of the classes.
        task: 'detection', 'segmentation' or 'classification' ('backbone' only with ``maps``).
        size: (height, width) of the images that the file takes; None for any.
        pixels: how images are read.

    Raises:
        UserError: a file or json that is missing, broken, or does not belong to the other.
    """

    def __init__(self, path: str | Path, device: str | None = None, *, maps: bool = False) -> None:
        self.path = Path(path)
        self.info = read_info(self.path)
        self.task: str = self.info['task']
        if self.task == 'backbone' and not maps:
            raise UserError(
                f'{path} is a backbone, which has maps and no predictions: export the whole model'
            )
        self.session = open_session(self.path, device)
        self._check_session()
        self.device = self.session.device
        self.size = None if self.info['size'] is None else (self.info['size'][0], self.info['size'][1])
        self.batch: int | None = self.info['batch']
        self.pixels = PixelFormat.of(self.info['preprocess'])
        classes = self.info['classes']
        names, ids = (tuple(c[key] for c in classes) for key in ('name', 'id'))
        queries = self.info.get('queries', {})
        things = queries['things'] if 'panoptic' in queries else None
        self.categories = Categories(names, ids, own=self.info['own_category_ids'], num_things=things)

    def _check_session(self) -> None:
        """Compare names, shapes and dtype of the file's input and results with the json.

        Raises:
            UserError: they differ.
        """
        session, info = self.session, self.info
        if self.path.suffix == '.pt2':  # it names neither
            return
        images = (info['batch'], *(info['size'] or (None, None)), info['preprocess'].get('channels', 3))
        count = len(info['classes'])
        results = dict(classification=dict(scores=(None, count)), segmentation=dict(logits=(None, count)))
        pairs: list[tuple[str, object, object]] = [
            ('inputs', session.inputs, ['images']),
            ('outputs', sorted(session.outputs), sorted(info['outputs'])),
            ('dtype', session.dtype, info['dtype']),
        ]
        for name, shape in (('images', images), *results.get(self.task, {}).items()):
            sides = list(zip(session.shapes.get(name, ()), shape, strict=False))
            known = [(a, b) for a, b in sides if a is not None and b is not None]
            pairs.append((f'shape of {name}', [a for a, _ in known], [b for _, b in known]))
        for what, found, described in pairs:
            if found != described:
                raise UserError(
                    f'{self.path} has {what} {found}, but {info_path(self.path).name} describes {described}: '
                    'it was not written by fastervit export with this json'
                )

    def settings(self) -> dict[str, str]:
        """Return what results depend on: digests of the file and of its json."""
        data = weights_of(self.path) if format_of(self.path).always_apart else self.path
        return dict(checkpoint=digest_of(data), config=digest_of(info_path(self.path)))

    def image_ids(self) -> Mapping[str, int]:
        """Return no ids: the file knows no data set."""
        return {}

    def accepts(self, pixels: np.ndarray) -> bool:
        """Whether an image can be prepared."""
        try:
            self.prepare(pixels)
        except UserError:
            return False
        return True

    def infer(
        self, pixels: Sequence[np.ndarray], threshold: float, labels: Sequence[int] | None
    ) -> list[Prediction]:
        """Predict on images; see :meth:`~.toolkit_model.ToolkitModel.infer`."""
        prepared = [self.prepare(image) for image in pixels]
        results: list[Prediction] = []
        step = len(pixels) if self.size is not None else 1  # other sizes can differ
        for i in range(0, len(pixels), max(1, step)):
            outputs = self.run(np.stack([canvas for canvas, _ in prepared[i : i + step]]))
            for j, image in enumerate(pixels[i : i + step]):
                one = {name: value[j] for name, value in outputs.items()}
                size = (image.shape[0], image.shape[1])
                results.append(self.convert(one, prepared[i + j][1], size, threshold, labels))
        return results

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the results, by name, of images that :meth:`prepare` returned; any number.

        A file for batches gets full ones; what it computes for the repeated last image is dropped.
        """
        count = len(images)
        step = self.batch or max(1, count)
        parts: list[list[np.ndarray]] = []
        for i in range(0, count, step):
            group = images[i : i + step]
            padding = [group[-1:]] * (step - len(group)) if self.batch else []
            group = np.concatenate([group, *padding]).astype(self.info['dtype'])
            parts.append([output[: len(group) - len(padding)] for output in self.session.run(group)])
        names = self.info['outputs'] if self.path.suffix == '.pt2' else self.session.outputs
        return {
            name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)
        }

    def prepare(self, pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Resize and pad an image; see :func:`~.exported_input.prepare`."""
        return prepare(pixels, self.info)

    def convert(
        self,
        outputs: Mapping[str, np.ndarray],
        inner: tuple[int, int],
        size: tuple[int, int],
        threshold: float,
        labels: Sequence[int] | None,
    ) -> Prediction:
        """Convert the results of one image.

        Args:
            outputs: name -> result.
            inner: (height, width) of the image within the canvas.
            size: (height, width) of the image itself.
            threshold: lowest score of an object.
            labels: indices of the classes to keep; None: all.
        """
        if self.task == 'classification':
            return Prediction.of_classes(size, outputs['scores'].astype(np.float32), labels)
        if self.task == 'segmentation':
            canvas = outputs['label_map'].shape
            label_map = label_map_of(outputs['logits'], canvas, inner, size, self.info['align_corners'])
            return Prediction.of_label_map(label_map, len(self.categories.names), labels)
        divisor = self.info.get('masks', {}).get('divisor', 1)
        canvas = self.size or (-(-inner[0] // divisor) * divisor, -(-inner[1] // divisor) * divisor)
        geometry = Geometry(canvas, inner, size)
        if 'queries' in self.info:
            of_queries = outputs['probabilities'], outputs['masks'], self.info['queries']
            return prediction_of_queries(*of_queries, geometry, threshold, labels).within_image()
        keep = (outputs['scores'] >= threshold) & (outputs['labels'] >= 0)
        if outputs['labels'].max(initial=-1) >= len(self.categories.names):
            raise UserError(f'{self.path} finds more classes than its json names: export it again')
        if labels is not None:
            keep &= np.isin(outputs['labels'], labels)
        index = np.flatnonzero(keep)
        index = index[np.argsort(-outputs['scores'][index], kind='stable')]
        scale = np.array([inner[1] / size[1], inner[0] / size[0]] * 2, np.float32)
        boxes = outputs['boxes'][index].astype(np.float32) / scale  # may reach into the padding, as masks do
        masks = None
        if 'masks' in self.info:
            masks = masks_of_objects(outputs['masks'][index], geometry, self.info['masks']['threshold'])
        elif 'masks' in outputs:
            pairs = zip(outputs['masks'][index], boxes, strict=True)
            masks = [encode_mask(paste_mask(mask, box, size)) for mask, box in pairs]
        scores, found = outputs['scores'][index].astype(np.float32), outputs['labels'][index].astype(int)
        return Prediction(size, boxes, scores, found, masks).within_image()
