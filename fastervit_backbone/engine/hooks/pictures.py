"""Pictures of the test results of a segmenter or classifier."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from PIL import Image

from ...datasets.images import read_picture
from ...visualization.draw import draw_lines, enlarge

#: Class names are drawn on images with sides of at least this many pixels; they would cover smaller ones.
_MIN_LABELED_SIDE = 300


class _Pictures(Hook):
    """Writes a picture of every test image.

    Args:
        folder: created if missing; a picture has the name of its image, ``.png``, preceded by the names of
            folders if the images are in several.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._common_folder = ''

    def _draw(self, runner: Runner, pixels: np.ndarray, sample: BaseDataElement, path: Path) -> None:
        raise NotImplementedError

    def before_test(self, runner: Runner) -> None:
        """Find the deepest folder that contains all images."""
        dataset = runner.test_dataloader.dataset
        folders = [os.path.dirname(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
        self._common_folder = os.path.commonpath(folders)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Mapping | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw a batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for sample in outputs or ():
            pixels = np.asarray(read_picture(sample.img_path))
            stem = os.path.splitext(os.path.relpath(sample.img_path, self._common_folder or None))[0]
            self._draw(runner, pixels, sample, self.folder / f'{stem.replace(os.sep, "_")}.png')


class SegmentationPictures(_Pictures):
    """Write every test image with its labels and its prediction side by side, drawn by mmseg's visualizer.

    Args:
        folder: as in the base class.
        alpha: opacity of the label colors, 0..1.
    """

    def __init__(self, folder: str | Path, alpha: float = 0.75) -> None:
        super().__init__(folder)
        self.alpha = alpha

    def _draw(self, runner: Runner, pixels: np.ndarray, sample: BaseDataElement, path: Path) -> None:
        runner.visualizer.alpha = self.alpha
        with_labels = min(pixels.shape[:2]) >= _MIN_LABELED_SIDE
        runner.visualizer.add_datasample(
            path.stem, pixels, sample, out_file=str(path), with_labels=with_labels
        )


class ClassificationPictures(_Pictures):
    """Write every test image with its true class and the most probable ones."""

    def _draw(self, runner: Runner, pixels: np.ndarray, sample: BaseDataElement, path: Path) -> None:
        names = runner.test_dataloader.dataset.metainfo['classes']
        scores = sample.pred_score.float().cpu().numpy()
        lines = [f'true: {names[int(sample.gt_label)]}']
        lines += [f'{scores[i]:.2f} {names[i]}' for i in np.argsort(-scores, kind='stable')[:5]]
        scene = enlarge(np.ascontiguousarray(pixels[..., ::-1]), pixels.shape[:2])
        Image.fromarray(np.ascontiguousarray(draw_lines(scene, lines)[..., ::-1])).save(path)


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
