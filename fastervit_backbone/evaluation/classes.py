"""Compare predicted classes of images with true ones, and write the report."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.class_folders import list_images, resolve_classes
from ..datasets.imagenet import SYNSETS, synsets
from ..datasets.images import read_picture
from ..utils.errors import UserError
from ..utils.html import data_uri
from .report import Section, format_table, write_report
from .report_pictures import PICTURE, Picture, confusion_chart, to_jpeg
from .score import divide

#: Largest matrix that is drawn; above, only the most frequent confusions are listed.
_DRAWN_CLASSES = 100


@dataclass(frozen=True)
class ClassMistake:
    """An image whose most probable class is wrong.

    Args:
        image: path below the folder of the truth.
        true, predicted: names of the classes.
        score: of the predicted class.
    """

    image: str
    true: str
    predicted: str
    score: float


@dataclass(frozen=True)
class ClassResults:
    """Results of a classifier; metrics are 0..1, nan for a class without images or without predictions.

    Args:
        names: classes.
        confusion: (n, n), images: row true class, column most probable class.
        top5: fraction of the images whose true class is among the five most probable.
        mistakes: highest score first.
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    top5: float
    mistakes: list[ClassMistake]

    @property
    def top1(self) -> float:
        """Fraction of the images whose most probable class is the true one."""
        return float(np.diag(self.confusion).sum() / self.confusion.sum())

    @property
    def recall(self) -> np.ndarray:
        """(n,): correct images over true ones, the accuracy of a class."""
        return divide(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def precision(self) -> np.ndarray:
        """(n,): correct images over predicted ones."""
        return divide(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def f1(self) -> np.ndarray:
        """(n,): harmonic mean of precision and recall."""
        return divide(2 * np.diag(self.confusion), self.confusion.sum(1) + self.confusion.sum(0))


def analyze_classes(content: Mapping, truth: Path) -> ClassResults:
    """Compare the predictions of a classifier with the folders of the images.

    Args:
        content: of predictions.json.
        truth: folder of one folder per class, whose images were predicted.

    Raises:
        UserError: an image has no prediction, or a folder is no class of the model.
    """
    names = [category['name'] for category in content['categories']]
    index = {category['id']: i for i, category in enumerate(content['categories'])}
    label_of = dict(zip(names, range(len(names)), strict=True))
    folders, _ = resolve_classes(truth)
    labels = [_label_of_folder(folder, label_of, truth) for folder in folders]
    found: dict[int, list[Mapping]] = {}
    for annotation in content['annotations']:
        found.setdefault(annotation['image_id'], []).append(annotation)
    by_name = {image['file_name']: found.get(image['id'], []) for image in content['images']}
    confusion, hits, mistakes = np.zeros((len(names), len(names)), np.int64), 0, []
    images = list_images(truth, folders)
    for path, folder in images:
        name = Path(os.path.relpath(path, truth)).as_posix()
        if not by_name.get(name):
            raise UserError(
                f'{path} has no prediction ({len(by_name)} images have one, {len(images)} are in {truth}): '
                f'predict on the folder {truth}'
            )
        best = sorted(by_name[name], key=lambda annotation: -annotation['score'])
        guesses, true = [index[annotation['category_id']] for annotation in best], labels[folder]
        confusion[true, guesses[0]] += 1
        hits += true in guesses[:5]
        if guesses[0] != true:
            mistakes.append(ClassMistake(name, names[true], names[guesses[0]], best[0]['score']))
    mistakes.sort(key=lambda mistake: -mistake.score)
    return ClassResults(tuple(names), confusion, hits / len(images), mistakes)


def _label_of_folder(folder: str, label_of: Mapping[str, int], truth: Path) -> int:
    """Return the label of a folder that has the name of a class, or ImageNet's for it."""
    if folder in label_of:
        return label_of[folder]
    for listed in SYNSETS:
        name = synsets(listed).get(folder)
        if name in label_of:
            return label_of[name]
    raise UserError(f'{truth / folder}: {folder!r} is none of the {len(label_of)} classes of the predictions')


def write_class_report(
    results: ClassResults, images: Path | None, out: Path, title: str, worst: int
) -> list[Path]:
    """Write ``report.html``, ``figures.json``, ``classes.csv`` and ``confusion.csv``.

    Args:
        results: results to report.
        images: folder of the images, for pictures of the worst mistakes; None: no pictures.
        out: folder to write to.
        title: title of the page.
        worst: number of pictures.

    Returns:
        the files that were written.
    """
    used = np.flatnonzero(results.confusion.sum(0) + results.confusion.sum(1))  # ImageNet-R has 200 of 1000
    names = [results.names[i] for i in used]
    confusion = results.confusion[np.ix_(used, used)]
    header = ['class', 'images', 'precision', 'recall', 'F1']
    columns = (confusion.sum(1).tolist(), *(m[used] for m in (results.precision, results.recall, results.f1)))
    rows = list(zip(names, *columns, strict=True))
    summary = {'top-1': results.top1, 'top-5': results.top5, 'images': int(confusion.sum())}
    text = 'Rows: true class; columns: predicted class; colors: fraction of the row.'
    chart = confusion_chart(confusion, names) if len(names) <= _DRAWN_CLASSES else None
    pictures = [] if images is None else [_picture(images, m) for m in results.mistakes[:worst]]
    sections = [
        Section('', table=format_table(['metric', 'value'], summary.items())),
        Section('Classes', table=format_table(header, rows)),
        Section('Confusion', text if chart else '', chart=chart),
        Section('Most frequent confusions', table=_frequent_confusions(confusion, names)),
        Section(
            'Worst mistakes', 'Wrong, with the highest scores.' if pictures else 'None.', pictures=pictures
        ),
    ]
    return write_report(out, title, sections, dict(summary=summary), header, rows, confusion, names)


def _frequent_confusions(confusion: np.ndarray, names: Sequence[str]) -> list[list[str]]:
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind='stable')[:20]
    pairs = [np.unravel_index(i, wrong.shape) for i in order]
    rows = [(names[i], names[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]
    return format_table(['true', 'predicted', 'images'], rows)


def _picture(images: Path, mistake: ClassMistake) -> Picture:
    pixels = read_picture(images / mistake.image)
    scale = PICTURE / max(pixels.size) / 2
    pixels = pixels.resize([max(1, round(side * scale)) for side in pixels.size])
    caption = f'{mistake.true}, predicted {mistake.predicted} {mistake.score:.2f}; {mistake.image}'
    return Picture(data_uri(to_jpeg(pixels, quality=88), 'jpeg'), caption)
