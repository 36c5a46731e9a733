"""Predicted label maps against true ones, class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.images import open_image
from ..utils.errors import UserError

#: Values that are no class, of 8-bit and of 16-bit files, where no class has them.
NO_CLASS = {255, 65535}


@dataclass(frozen=True)
class LabelMapResults:
    """Everything about one folder of label maps; figures 0..1, nan where a class is nowhere.

    Args:
        names: of the classes.
        confusion: (n + 1, n + 1), pixels: row true class, column predicted; the last column is what was given no class.
        images: (path below the folder, pixel accuracy, mean IoU over the classes in it), the worst first.
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    images: list[tuple[str, float, float]]

    @property
    def iou(self) -> np.ndarray:
        """(n,): intersection over union."""
        return _iou(self.confusion)

    @property
    def recall(self) -> np.ndarray:
        """(n,): right pixels over true ones, mmseg's "Acc"."""
        return _divide(self._right, self.confusion[:-1].sum(1))

    @property
    def precision(self) -> np.ndarray:
        """(n,): right pixels over predicted ones."""
        return _divide(self._right, self.confusion[:, :-1].sum(0))

    @property
    def f1(self) -> np.ndarray:
        """(n,): the Dice coefficient."""
        return _divide(2 * self._right, self.confusion[:-1].sum(1) + self.confusion[:, :-1].sum(0))

    @property
    def accuracy(self) -> float:
        """Right pixels over all that have a true class."""
        return float(self._right.sum() / max(1, self.confusion.sum()))

    @property
    def _right(self) -> np.ndarray:
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
        predicted: folder with ``labels/`` of tools/predict.py, or that folder itself.
        truth: folder of true label maps with the same paths.
        names: of the classes.
        ids: their values in the files.
        ignored: true values that count nowhere, beside 255 (65535 in 16-bit files) and, where ids start at 1, 0.

    Raises:
        UserError: no files, a true map without a prediction, another size, a value that is no class: names the file.
    """
    predicted, truth = Path(predicted), Path(truth)
    predicted = predicted / 'labels' if (predicted / 'labels').is_dir() else predicted
    paths = sorted(p.relative_to(truth) for p in truth.rglob('*.png')) if truth.is_dir() else []
    if not paths:
        raise UserError(f'{truth} has no label maps (*.png)')
    ignored = {*ignored, *(NO_CLASS - set(ids))} | ({0} if min(ids) > 0 else set())
    count = len(names)
    total, images = np.zeros((count + 1, count + 1), np.int64), []
    for path in paths:
        if not (predicted / path).is_file():
            raise UserError(
                f'{truth / path} has no prediction at {predicted / path} ({len(paths)} label maps in all): predict on all its images'
            )
        true = _indices(truth / path, ids, ignored)
        guess = _indices(predicted / path, ids, NO_CLASS | ({0} if min(ids) > 0 else set()) - set(ids))
        if true.shape != guess.shape:
            raise UserError(
                f'{truth / path} is {true.shape[1]}x{true.shape[0]} pixels, its prediction {guess.shape[1]}x{guess.shape[0]}'
            )
        counted = true < count
        one = np.bincount(true[counted] * (count + 1) + guess[counted], minlength=(count + 1) ** 2).reshape(
            count + 1, count + 1
        )
        total += one
        images.append(
            (
                path.as_posix(),
                float(np.diag(one)[:-1].sum() / max(1, one.sum())),
                float(np.nanmean(_iou(one))) if one.any() else 1.0,
            )
        )
    return LabelMapResults(tuple(names), total, sorted(images, key=lambda i: i[2]))


def _indices(path: Path, ids: Sequence[int], ignored: set[int]) -> np.ndarray:
    """Values to indices of classes; what is ignored to their number."""
    with open_image(path) as image:
        values = np.asarray(image)
    if values.ndim != 2 or values.dtype.kind not in 'uib':
        raise UserError(
            f'{path} is no label map: expected one whole number a pixel, it has {values.shape} of {values.dtype}'
        )
    present = np.unique(values)
    strange = [int(v) for v in present if v not in ids and v not in ignored]
    if strange:
        raise UserError(
            f'{path} has the value {strange[0]}, which is no class: they are {min(ids)} to {max(ids)} (--ignore {strange[0]} leaves it out)'
        )
    table = np.full(int(present.max()) + 1, len(ids), np.int64)
    for k, i in enumerate(ids):
        if i < len(table) and i not in ignored:
            table[i] = k
    return table[values.astype(np.int64)]


def _iou(confusion: np.ndarray) -> np.ndarray:
    right = np.diag(confusion)[:-1]
    return _divide(right, confusion[:-1].sum(1) + confusion[:, :-1].sum(0) - right)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
