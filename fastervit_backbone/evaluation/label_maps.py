"""Compare predicted label maps with true ones, class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.image_headers import open_image
from ..utils.errors import UserError
from .score import confusion_of, divide, intersection_over_union

#: Values that are ignored, in 8-bit and in 16-bit files, unless a class has them.
NO_CLASS = {255, 65535}


@dataclass(frozen=True)
class LabelMapResults:
    """Results of a folder of label maps; metrics are 0..1, nan for a class that does not occur.

    Args:
        names: class names.
        confusion: (n + 1, n + 1), pixels: row true class, column predicted class; the last column counts
            pixels that were predicted as ignored.
        images: (path below the folder, pixel accuracy, mean IoU over the image's classes), lowest IoU first.
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    images: list[tuple[str, float, float]]

    @property
    def iou(self) -> np.ndarray:
        """(n,): intersection over union."""
        return intersection_over_union(self.confusion)

    @property
    def recall(self) -> np.ndarray:
        """(n,): correct pixels over true ones, mmseg's "Acc"."""
        return divide(self._correct, self.confusion[:-1].sum(1))

    @property
    def precision(self) -> np.ndarray:
        """(n,): correct pixels over predicted ones."""
        return divide(self._correct, self.confusion[:, :-1].sum(0))

    @property
    def f1(self) -> np.ndarray:
        """(n,): the Dice coefficient."""
        return divide(2 * self._correct, self.confusion[:-1].sum(1) + self.confusion[:, :-1].sum(0))

    @property
    def accuracy(self) -> float:
        """Correct pixels over all that have a true class."""
        return _accuracy(self.confusion)

    @property
    def _correct(self) -> np.ndarray:
        return np.diag(self.confusion)[:-1]


def analyze_label_maps(
    predicted: str | Path,
    truth: str | Path,
    names: Sequence[str],
    ids: Sequence[int],
    ignored: Sequence[int] = (),
) -> LabelMapResults:
    """Compare all label maps of two folders.

    Args:
        predicted: folder with ``labels/`` of fastervit predict, or that folder itself.
        truth: folder of true label maps with the same relative paths.
        names: class names.
        ids: values of the classes in the files.
        ignored: true values that are not evaluated, in addition to 255 (65535 in 16-bit files) and, if the
            ids start at 1, 0.

    Raises:
        UserError: there are no files, a true map has no prediction or one of another size, or a value belongs
            to no class; the message names the file.
    """
    predicted, truth = Path(predicted), Path(truth)
    predicted = predicted / 'labels' if (predicted / 'labels').is_dir() else predicted
    paths = sorted(p.relative_to(truth) for p in truth.rglob('*.png')) if truth.is_dir() else []
    if not paths:
        raise UserError(f'{truth} has no label maps (*.png)')
    background = {0} if min(ids) > 0 else set()
    always_ignored = (NO_CLASS - set(ids)) | background
    count = len(names)
    total, images = np.zeros((count + 1, count + 1), np.int64), []
    for path in paths:
        if not (predicted / path).is_file():
            raise UserError(
                f'{truth / path} has no prediction at {predicted / path} ({len(paths)} label maps in total): '
                'predict on all images of the ground truth'
            )
        true = _read_indices(truth / path, ids, {*ignored, *always_ignored})
        guess = _read_indices(predicted / path, ids, always_ignored)
        if true.shape != guess.shape:
            sizes = [f'{values.shape[1]}x{values.shape[0]}' for values in (true, guess)]
            raise UserError(f'{truth / path} is {sizes[0]} pixels, but its prediction is {sizes[1]}')
        confusion = confusion_of(true, guess, count)
        total += confusion
        iou = float(np.nanmean(intersection_over_union(confusion))) if confusion.any() else 1.0
        images.append((path.as_posix(), _accuracy(confusion), iou))
    return LabelMapResults(tuple(names), total, sorted(images, key=lambda image: image[2]))


def _read_indices(path: Path, ids: Sequence[int], ignored: set[int]) -> np.ndarray:
    """Read a label map as class indices; ignored pixels get the number of classes."""
    with open_image(path) as image:
        values = np.asarray(image)
    if values.ndim != 2 or values.dtype.kind not in 'uib':
        raise UserError(
            f'{path} is not a label map: expected (H, W) integers, it has {values.shape} of {values.dtype}'
        )
    present = np.unique(values)
    unknown = [int(v) for v in present if v not in ids and v not in ignored]
    if unknown:
        raise UserError(
            f'{path} has the value {unknown[0]}, which is no class ({min(ids)} to {max(ids)}): '
            f'--ignore {unknown[0]} leaves it out'
        )
    table = np.full(int(present.max()) + 1, len(ids), np.int64)
    for k, i in enumerate(ids):
        if i < len(table) and i not in ignored:
            table[i] = k
    return table[values.astype(np.int64)]


def _accuracy(confusion: np.ndarray) -> float:
    return float(np.diag(confusion)[:-1].sum() / max(1, confusion.sum()))
