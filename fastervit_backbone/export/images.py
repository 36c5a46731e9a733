"""The images, and perhaps the truth, that an exported file is compared on."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from ..datasets.image_headers import open_image
from ..datasets.images import image_size, read_image
from ..datasets.pixel_format import COLOR, PixelFormat
from ..datasets.shapes import make_shapes
from ..evaluation.coco_files import read_truth
from ..evaluation.score import confusion_of, intersection_over_union, score_objects
from ..inference.sources import choose_sources, find_images, spread
from ..structures.prediction import Categories, Prediction
from ..utils.errors import UserError

#: Images that are compared where there is no truth.
UNLABELED = 12


@dataclass
class Images:
    """Images with or without truth.

    Attributes:
        paths: of the images.
        generated: pixels as ``read_image`` returns them, where there are no files; None.
        truth: COCO, or label map (H, W) of class indices of each image, or class index of each image; None.
        ids: of the images in the COCO json.
        kind: for messages.
        pixels: how images are read.
    """

    paths: list[Path]
    generated: list[np.ndarray] | None = None
    truth: COCO | list[np.ndarray] | list[int] | None = None
    ids: list[int] | None = None
    kind: str = 'images'
    pixels: PixelFormat = COLOR

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Return the pixels of some images, as ``read_image`` does."""
        if self.generated is not None:
            return [self.generated[i] for i in indices]
        return [read_image(self.paths[i], self.pixels) for i in indices]


def read_images(
    source: str | Path | None,
    annotations: str | Path | None,
    task: str,
    categories: Categories,
    pixels: PixelFormat = COLOR,
) -> Images:
    """Read the images of ``--verify``; without it generate some.

    Args:
        source: folder of images, of class folders for a classifier; None: generated shapes.
        annotations: COCO json of the images, or folder of label maps with their names; None: no truth.
        task: of the exported model.
        categories: of the model.
        pixels: how images are read.

    Raises:
        UserError: no images, or annotations that do not fit them.
    """
    if source is None:
        if annotations is not None:
            raise UserError(f'--annotations {annotations}: --verify names the folder of its images')
        if not pixels.is_color:
            raise UserError(
                f'--verify DIR is required for a model of {pixels.channels} channels: none can be generated'
            )
        return generated_images()
    images = _read_images(source, annotations, task, categories)
    images.pixels = pixels
    return images


def _read_images(
    source: str | Path, annotations: str | Path | None, task: str, categories: Categories
) -> Images:
    if annotations is None:
        sources = find_images(source)
        if not sources:
            raise UserError(f'--verify {source}: no images')
        folders = [Path(s.name).parent.name for s in sources]
        if task == 'classification' and set(folders) <= set(categories.names):
            truth = [categories.names.index(name) for name in folders]
            return Images([s.path for s in sources], truth=truth, kind='images of class folders')
        return Images([s.path for s in spread(sources, UNLABELED)])
    if Path(annotations).is_dir():
        if task != 'segmentation':
            raise UserError(
                f'--annotations {annotations}: label maps are for segmenters, this needs a COCO json'
            )
        return _with_label_maps(Path(source), Path(annotations), categories)
    if task != 'detection':
        raise UserError(f'--annotations {annotations}: a COCO json is for detectors only')
    found, ids = choose_sources([source], annotations)
    assert ids is not None
    truth = read_truth(annotations)
    names = {c['name'] for c in truth.dataset['categories']}
    if not names & set(categories.names):
        raise UserError(
            f'--annotations {annotations}: none of its categories ({", ".join(sorted(names)[:5])}) is a '
            f'class of the model ({", ".join(categories.names[:5])})'
        )
    paths = [s.path for s in found]
    return Images(paths, truth=truth, ids=[ids[str(p)] for p in paths], kind='images of COCO')


def generated_images() -> Images:
    """Draw shapes, of three sizes, two of them upright."""
    pixels: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, size in enumerate(((240, 320), (333, 200), (97, 64))):
            root = make_shapes(Path(folder) / str(i), train=1, val=3, size=size, seed=i)
            pixels += [read_image(p) for p in sorted((root / 'images' / 'val').glob('*.png'))]
    return Images([Path(f'generated{i}.png') for i in range(len(pixels))], pixels, kind='generated images')


def score(predictions: Sequence[Prediction], images: Images, categories: Categories) -> dict[str, float]:
    """Compute box and mask AP, mIoU or top-1, 0..1; empty without truth."""
    if images.truth is None:
        return {}
    if isinstance(images.truth, COCO):
        return _average_precision(predictions, images, categories)
    if predictions[0].classification:
        correct = [p.labels[0] == t for p, t in zip(predictions, images.truth, strict=True)]
        return {'top-1': float(np.mean(correct))}
    n = len(categories.names)
    confusion = np.zeros((n + 1, n + 1), np.int64)
    for prediction, truth in zip(predictions, images.truth, strict=True):
        assert prediction.label_map is not None and isinstance(truth, np.ndarray)
        confusion += confusion_of(truth, prediction.label_map, n)
    return {'mIoU': float(np.nanmean(intersection_over_union(confusion)))}


def _average_precision(
    predictions: Sequence[Prediction], images: Images, categories: Categories
) -> dict[str, float]:
    truth = images.truth
    assert isinstance(truth, COCO) and images.ids is not None
    ids = {c['name']: c['id'] for c in truth.dataset['categories']}
    known = Categories(categories.names, tuple(ids.get(name, -1) for name in categories.names))
    entries: list[dict] = []
    for prediction, image_id in zip(predictions, images.ids, strict=True):
        entries += [e for e in prediction.to_coco(image_id, known) if e['category_id'] >= 0]
    has_masks = any(p.masks is not None for p in predictions)
    metrics: dict[str, float] = {}
    for kind, name in (('bbox', 'box AP'), ('segm', 'mask AP'))[: 1 + has_masks]:
        metrics[name] = max(0.0, float(score_objects(truth, entries, kind, images.ids).stats[0]))
    return metrics


def _with_label_maps(folder: Path, labels: Path, categories: Categories) -> Images:
    sources = find_images(folder)
    maps: list[np.ndarray] = []
    index = np.full(65536, 65535, np.uint16)
    index[list(categories.ids)] = np.arange(len(categories.ids))
    for source in sources:
        file = labels / Path(source.name).with_suffix('.png')
        if not file.is_file():
            raise UserError(f'--annotations {labels}: {file} is missing, the label map of {source.path}')
        with open_image(file) as image:
            values = np.asarray(image)
        size = image_size(source.path)[::-1]
        if values.shape != size:
            raise UserError(f'{file} has the shape {values.shape}, its image {source.path} {size}')
        maps.append(index[values.astype(np.int64)])
    return Images([s.path for s in sources], truth=maps, kind='images with label maps')
