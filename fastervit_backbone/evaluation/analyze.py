"""Analysis behind tools/analyze_results.py: predictions and ground truth in, figures and a page out."""

from pathlib import Path

import numpy as np

from ..utils.errors import UserError
from ..utils.files import check_folder_writable
from .coco_files import read_detections, read_truth
from .label_maps import analyze_label_maps
from .objects import analyze_objects
from .report import write_label_map_report, write_object_report


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
    """Compare predictions with the truth and write everything about it.

    Args:
        predictions: json of tools/predict.py (or a list of COCO results).
        truth: COCO json, or a folder of label maps.
        out: folder for ``report.html``, ``figures.json``, ``classes.csv``, ``confusion.csv`` and pictures.
        images: folder of the images, for pictures of mistakes.
        metric: 'bbox' or 'segm', what objects are matched by.
        threshold: score from which detections count in the confusion matrix and as false positives, 0..1.
        worst: pictures of each sort of mistake.
        ignored: values of true label maps that count nowhere.

    Returns:
        lines for people.

    Raises:
        UserError: files that are missing or do not belong together.
    """
    check_folder_writable('--out', out)
    predictions, truth, out = Path(predictions), Path(truth), Path(out)
    predictions = predictions / 'predictions.json' if predictions.is_dir() else predictions
    images = None if images is None else Path(images)
    if images is not None and not images.is_dir():
        raise UserError(f'--images {images} is no folder')
    content = read_detections(predictions)
    title = f'{predictions} against {truth}'
    if truth.is_dir():
        categories = content.get('categories')
        if not (content.get('info') or {}).get('label_maps') or not categories:
            raise UserError(
                f'{truth} is a folder, of label maps, and {predictions} holds objects: compare those with a COCO json'
            )
        names, ids = [c['name'] for c in categories], [c['id'] for c in categories]
        labels = analyze_label_maps(predictions.parent, truth, names, ids, ignored)
        written = write_label_map_report(labels, predictions.parent, truth, images, out, title)
        return [
            f'mIoU {np.nanmean(labels.iou):.4f}, pixel accuracy {labels.accuracy:.4f}',
            f'written: {written[0]}',
        ]
    if not truth.is_file():
        raise UserError(f'no ground truth at {truth}: a COCO json, or a folder of label maps')
    if (content.get('info') or {}).get('label_maps'):
        raise UserError(
            f'{predictions} is about label maps, and {truth} is a file: name the folder of true label maps'
        )
    annotations = read_truth(truth, metric)
    objects = analyze_objects(content, annotations, kind=metric, threshold=threshold, worst=worst)
    written = write_object_report(objects, images, out, title)
    said = [
        ', '.join(
            f'{name} {value:.4f}'
            for name, value in objects.summary.items()
            if name in ('AP', 'AP50', 'AP75', 'AR 100')
        )
    ]
    said += objects.notes
    least = min((a['score'] for a in content['annotations']), default=0)
    if least > 0.1:
        said.append(
            f'no detection scores below {least:.2f}: AP wants them all (tools/predict.py --threshold 0)'
        )
    return [*said, f'written: {written[0]}']
