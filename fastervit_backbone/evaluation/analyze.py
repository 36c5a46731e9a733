"""Analysis behind fastervit analyze-results: compare predictions with the ground truth and write a report."""

from pathlib import Path

import numpy as np

from ..utils.errors import UserError
from ..utils.files import check_folder_writable
from .classes import analyze_classes, write_class_report
from .coco_files import read_detections, read_truth
from .label_maps import analyze_label_maps
from .objects import ObjectResults, analyze_objects
from .report import write_label_map_report, write_object_report

#: AP integrates over all scores: a lowest score above this suggests that a threshold was applied before.
_LOWEST_SCORE = 0.1


def analyze(
    predictions: str | Path,
    truth: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    metric: str = 'bbox',
    threshold: float = 0.3,
    worst: int = 24,
    ignored: tuple[int, ...] = (),
) -> list[str]:
    """Compare predictions with the ground truth and write the report.

    Args:
        predictions: JSON file of fastervit predict (or a list of COCO results), or the folder it is in.
        truth: COCO JSON file, a folder of label maps, or the folder of the class folders of a classifier.
        out: folder for ``report.html``, ``figures.json``, ``classes.csv``, ``confusion.csv`` and pictures.
        images: folder of the images, for pictures of the mistakes.
        metric: 'bbox' or 'segm', the geometry that objects are matched by.
        threshold: lowest score of detections in the confusion matrix and of false positives, 0..1.
        worst: number of pictures of false positives, and of misses.
        ignored: values of the true label maps that are not evaluated.

    Returns:
        lines to print.

    Raises:
        UserError: files are missing or do not belong together.
    """
    check_folder_writable('--out', out)
    predictions, truth, out = Path(predictions), Path(truth), Path(out)
    predictions = predictions / 'predictions.json' if predictions.is_dir() else predictions
    images = None if images is None else Path(images)
    if images is not None and not images.is_dir():
        raise UserError(f'--images {images} is not a folder')
    content = read_detections(predictions)
    has_label_maps = bool((content.get('info') or {}).get('label_maps'))
    title = f'{predictions} against {truth}'

    if (content.get('info') or {}).get('classification'):
        if not truth.is_dir():
            raise UserError(
                f'{predictions} has classes of whole images: give the folder of the class folders'
            )
        classes = analyze_classes(content, truth)
        written = write_class_report(classes, images or truth, out, title, worst)
        return [f'top-1 {classes.top1:.4f}, top-5 {classes.top5:.4f}', f'written: {written[0]}']
    if truth.is_dir():
        return _analyze_label_maps(content, predictions, truth, out, images, ignored)
    if not truth.is_file():
        raise UserError(f'no ground truth at {truth}: give a COCO JSON file or a folder of label maps')
    if has_label_maps:
        raise UserError(
            f'{predictions} describes label maps, but {truth} is a file: give the folder of true label maps'
        )
    results = analyze_objects(
        content, read_truth(truth, metric), kind=metric, threshold=threshold, worst=worst
    )
    written = write_object_report(results, images, out, title)
    return [*_object_lines(results, content), f'written: {written[0]}']


def _object_lines(results: ObjectResults, content: dict) -> list[str]:
    metrics = [f'{name} {results.summary[name]:.4f}' for name in ('AP', 'AP50', 'AP75', 'AR 100')]
    messages = [', '.join(metrics), *results.notes]
    lowest = min((a['score'] for a in content['annotations']), default=0)
    if lowest > _LOWEST_SCORE:
        messages.append(
            f'no detection scores below {lowest:.2f}: AP needs all of them (fastervit predict --threshold 0)'
        )
    return messages


def _analyze_label_maps(
    content: dict, predictions: Path, truth: Path, out: Path, images: Path | None, ignored: tuple[int, ...]
) -> list[str]:
    categories = content.get('categories')
    if not (content.get('info') or {}).get('label_maps') or not categories:
        raise UserError(
            f'{truth} is a folder of label maps, but {predictions} contains objects: '
            'compare objects with a COCO JSON file'
        )
    names, ids = [c['name'] for c in categories], [c['id'] for c in categories]
    results = analyze_label_maps(predictions.parent, truth, names, ids, ignored)
    title = f'{predictions} against {truth}'
    written = write_label_map_report(results, predictions.parent, images, out, title)
    metrics = f'mIoU {np.nanmean(results.iou):.4f}, pixel accuracy {results.accuracy:.4f}'
    return [metrics, f'written: {written[0]}']
