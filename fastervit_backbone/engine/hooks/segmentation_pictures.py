"""Pictures that people look at first."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from PIL import Image, ImageOps


class SegmentationPictures(Hook):
    """Write every test image with its labels and its prediction side by side, drawn by mmseg's visualizer.

    Args:
        folder: made if need be; pictures are called as the images, ``.png``, where need be with the names of their folders before.
        alpha: how much of a picture is colour of labels, 0..1.
    """

    def __init__(self, folder: str | Path, alpha: float = 0.75) -> None:
        self.folder, self.alpha = Path(folder), alpha
        self._above = ''

    def before_test(self, runner: Runner) -> None:
        """Find the folder above all images; mmengine calls this."""
        dataset = runner.test_dataloader.dataset
        self._above = os.path.commonpath(
            [os.path.dirname(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
        )

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Mapping | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw a batch; mmengine calls this."""
        self.folder.mkdir(parents=True, exist_ok=True)
        runner.visualizer.alpha = self.alpha
        for sample in outputs or ():
            with Image.open(sample.img_path) as image:
                pixels = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))  # as mmcv turns it
            name = os.path.splitext(os.path.relpath(sample.img_path, self._above or None))[0]
            path = self.folder / f'{name.replace(os.sep, "_")}.png'
            named = min(pixels.shape[:2]) >= 300  # on smaller ones the words hide everything
            runner.visualizer.add_datasample(path.stem, pixels, sample, out_file=str(path), with_labels=named)


def write_overview(folder: str | Path, columns: int = 2, rows: int = 4, width: int = 1400) -> Path | None:
    """Put the first pictures of a folder on one sheet, ``overview.png`` beside them.

    Args:
        folder: with .png or .jpg pictures.
        columns: pictures side by side.
        rows: pictures below each other, at most.
        width: pixels of the sheet.

    Returns:
        the sheet, or None where there are no pictures.
    """
    folder = Path(folder)
    sheet_path = folder / 'overview.png'
    paths = sorted(p for p in folder.glob('*') if p.suffix in ('.png', '.jpg') and p != sheet_path)[
        : columns * rows
    ]
    if not paths:
        return None
    cell = width // columns
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(
                picture.convert('RGB').resize(
                    (cell, round(picture.height * cell / picture.width)), Image.Resampling.LANCZOS
                )
            )
    lines = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    sheet = Image.new('RGB', (width, sum(max(p.height for p in line) for line in lines)), 'white')
    top = 0
    for line in lines:
        for column, picture in enumerate(line):
            sheet.paste(picture, (column * cell, top))
        top += max(p.height for p in line)
    sheet.save(sheet_path)
    return sheet_path
