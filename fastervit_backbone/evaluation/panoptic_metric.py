"""Panoptic quality (Kirillov et al., arXiv 1801.00868, section 4), without the package panopticapi."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric

from ..datasets.coco import read_coco
from ..datasets.panoptic import read_ids
from ..structures.prediction import INSTANCE_OFFSET
from ..utils.errors import UserError
from ..utils.log import log


class Segment(NamedTuple):
    """A segment of an image.

    Attributes:
        id: its value in the map, not 0.
        label: its class.
        is_crowd: a group of objects, which is neither found nor missed.
    """

    id: int
    label: int
    is_crowd: bool = False


def count_segments(
    truth: np.ndarray,
    true_segments: Sequence[Segment],
    found: np.ndarray,
    found_segments: Sequence[Segment],
    num_classes: int,
) -> np.ndarray:
    """Match the segments of an image and count them.

    A pair of segments of one class matches if its IoU is above 0.5, where unlabelled pixels of the truth do
    not count. A segment without a match is a false positive unless most of it lies on unlabelled pixels or on
    a crowd of its class.

    Args:
        truth: (H, W) ids, 0 for unlabelled pixels.
        true_segments: what the ids are.
        found: (H, W) ids, 0 for pixels without a segment.
        found_segments: what these ids are.
        num_classes: C.

    Returns:
        (4, C): sum of the IoU of matches, matches, false positives, false negatives.
    """
    counts = np.zeros((4, num_classes))
    pairs, areas = np.unique(np.stack([truth.ravel(), found.ravel()]), axis=1, return_counts=True)
    shared = {(int(t), int(f)): int(n) for (t, f), n in zip(pairs.T, areas, strict=True)}
    true_area: dict[int, int] = {}
    found_area: dict[int, int] = {}
    for (t, f), n in shared.items():
        true_area[t] = true_area.get(t, 0) + n
        found_area[f] = found_area.get(f, 0) + n
    truths = {segment.id: segment for segment in true_segments if segment.id in true_area}
    founds = {segment.id: segment for segment in found_segments if segment.id in found_area}
    matched: set[tuple[str, int]] = set()
    for (t, f), n in shared.items():
        if t not in truths or f not in founds or truths[t].is_crowd or truths[t].label != founds[f].label:
            continue
        iou = n / (true_area[t] + found_area[f] - n - shared.get((0, f), 0))
        if iou > 0.5:
            counts[:2, truths[t].label] += iou, 1
            matched |= {('true', t), ('found', f)}
    for t, segment in truths.items():
        if not segment.is_crowd and ('true', t) not in matched:
            counts[3, segment.label] += 1
    for f, segment in founds.items():
        crowds = [t for t, true in truths.items() if true.is_crowd and true.label == segment.label]
        ignored = sum(shared.get((t, f), 0) for t in (0, *crowds))
        if ('found', f) not in matched and ignored <= found_area[f] / 2:
            counts[2, segment.label] += 1
    return counts


def panoptic_quality(counts: np.ndarray) -> dict[str, float]:
    """Return ``PQ``, ``SQ`` and ``RQ`` in percent: means over the classes that are there or were found.

    Args:
        counts: (4, C) of :func:`count_segments`, summed over images.
    """
    iou, matches, false_positives, false_negatives = counts
    total = matches + false_positives / 2 + false_negatives / 2
    is_there = total > 0
    if not is_there.any():
        return dict(PQ=0.0, SQ=0.0, RQ=0.0)
    quality, recognition = iou[is_there] / total[is_there], matches[is_there] / total[is_there]
    segmentation = iou[is_there] / np.maximum(matches[is_there], 1)
    means = dict(PQ=quality, SQ=segmentation, RQ=recognition)
    return {name: 100 * float(values.mean()) for name, values in means.items()}


class PanopticMetric(BaseMetric):
    """PQ, SQ and RQ of all classes, of things (``_th``) and of stuff (``_st``), in percent.

    It stands in for mmdet's CocoPanopticMetric, which needs panopticapi, with the same names and figures.

    Args:
        ann_file: COCO's panoptic json.
        seg_prefix: folder of its PNGs.
        classwise: also log the figures of each class.
        collect_device: see mmengine.
        prefix: of the names.

    Raises:
        UserError: a file is missing, or an image has another size than its prediction.
    """

    default_prefix = 'coco_panoptic'

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str,
        classwise: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        content = read_coco(Path(ann_file))
        self.folder, self.classwise = Path(seg_prefix), classwise
        self.categories = {category['id']: category for category in content['categories']}
        self.annotations = {annotation['image_id']: annotation for annotation in content['annotations']}

    def process(self, data_batch: object, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Count the segments of a batch."""
        classes = list(self.dataset_meta['classes'])
        names = {category_id: category['name'] for category_id, category in self.categories.items()}
        labels = {category_id: classes.index(name) for category_id, name in names.items() if name in classes}
        for sample in data_samples:
            found = sample['pred_panoptic_seg']['sem_seg'].cpu().numpy()[0].astype(np.int64)
            annotation = self.annotations[sample['img_id']]
            path = self.folder / annotation['file_name']
            truth = read_ids(path)
            if truth.shape != found.shape:
                raise UserError(f'{path} has the size {truth.shape}, its image {found.shape}: write it again')
            true_segments = [
                Segment(s['id'], labels[s['category_id']], bool(s.get('iscrowd')))
                for s in annotation['segments_info']
                if s['category_id'] in labels
            ]
            found[found % INSTANCE_OFFSET >= len(classes)] = -1  # no segment
            ids = np.unique(found)
            found_segments = [Segment(int(i) + 1, int(i) % INSTANCE_OFFSET) for i in ids if i >= 0]
            self.results.append(count_segments(truth, true_segments, found + 1, found_segments, len(classes)))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Return the figures of all images."""
        counts, classes = np.sum(results, 0), list(self.dataset_meta['classes'])
        things = {category['name'] for category in self.categories.values() if category['isthing']}
        is_thing = np.array([name in things for name in classes])
        figures = panoptic_quality(counts)
        for which, ending in ((is_thing, '_th'), (~is_thing, '_st')):
            figures |= {f'{k}{ending}': v for k, v in panoptic_quality(counts[:, which]).items()}
        if self.classwise:
            each = {name: panoptic_quality(counts[:, [i]])['PQ'] for i, name in enumerate(classes)}
            log(f'PQ of each class: {json.dumps({k: round(v, 2) for k, v in each.items()})}')
        return figures
