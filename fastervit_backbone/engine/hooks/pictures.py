"""Pictures of test results."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from PIL import Image

from ...datasets.images import read_picture
from ...datasets.pixel_format import PixelFormat
from ...structures.prediction import Categories
from ...utils.unique_names import UniqueNames
from ...visualization.draw import draw
from ..samples import annotated_in, found_in


class ComparisonPictures(Hook):
    """Write a picture of every test image: its annotations on the left, what the model found on the right.

    Args:
        folder: created if missing; a picture has the name of its image, ``.png``, preceded by the names of
            folders if the images are in several.
        threshold: lowest score of an object.
        pixels: how images are read; None: as they say.
    """

    def __init__(self, folder: str | Path, threshold: float = 0.3, pixels: PixelFormat | None = None) -> None:
        self.folder, self.threshold, self.pixels = Path(folder), threshold, pixels
        self._stems: dict[str, str] = {}

    def before_test(self, runner: Runner) -> None:
        """Name the pictures of all images, from the deepest folder of all, in every process alike."""
        dataset, names = runner.test_dataloader.dataset, UniqueNames()
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
        for path in dict.fromkeys(paths):
            name = os.path.relpath(path, common or None).replace(os.sep, '_')
            self._stems[path] = names.stem(name)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Mapping | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw a batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = tuple(runner.test_dataloader.dataset.metainfo['classes'])
        categories = Categories(names, tuple(range(len(names))))
        for sample in outputs or ():
            pixels = np.asarray(read_picture(sample.img_path, self.pixels))[..., ::-1]
            size, sides = pixels.shape[:2], []
            if {'gt_instances', 'gt_sem_seg', 'gt_label'} & set(sample.keys()):
                truth = annotated_in(sample, size, len(names))
                sides.append(draw(np.ascontiguousarray(pixels), truth, categories, scores=False))
            found = found_in(sample, size, len(names), self.threshold)
            sides.append(draw(np.ascontiguousarray(pixels), found, categories))
            path = self.folder / f'{self._stems[sample.img_path]}.png'
            Image.fromarray(np.ascontiguousarray(np.concatenate(sides, 1)[..., ::-1])).save(path)


def write_overview(folder: str | Path, columns: int = 2, rows: int = 4, width: int = 1400) -> Path | None:
    """Arrange the first pictures of a folder on one sheet, ``overview.png`` beside them.

    Args:
        folder: with .png or .jpg pictures.
        columns: pictures side by side.
        rows: rows of pictures, at most.
        width: of the sheet in pixels.

    Returns:
        the sheet, or None if there are no pictures.
    """
    folder = Path(folder)
    sheet_path = folder / 'overview.png'
    paths = sorted(p for p in folder.glob('*') if p.suffix in ('.png', '.jpg') and p != sheet_path)
    cell = width // columns
    pictures = []
    for path in paths[: columns * rows]:
        with Image.open(path) as picture:
            size = (cell, round(picture.height * cell / picture.width))
            pictures.append(picture.convert('RGB').resize(size, Image.Resampling.LANCZOS))
    if not pictures:
        return None
    lines = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in line) for line in lines]
    sheet = Image.new('RGB', (width, sum(heights)), 'white')
    top = 0
    for line, height in zip(lines, heights, strict=True):
        for column, picture in enumerate(line):
            sheet.paste(picture, (column * cell, top))
        top += height
    sheet.save(sheet_path)
    return sheet_path
