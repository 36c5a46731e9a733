"""Look at a few samples of the train pipeline before a run: whether anything to learn comes out of it."""

import copy
import time
from collections.abc import Mapping
from itertools import cycle, islice

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...utils.errors import UserError
from ..processes import from_first_process, rank0_print
from ..runner.sampling import random_state_kept

#: Samples that are looked at until one is fine, seconds for that, and samples that prove the opposite: a crop
#: can miss small objects, and many label maps of a rare class have none of it.
_TRIES, _SECONDS, _PROOF = 60, 1.5, 20


class LookBeforeTrainingHook(Hook):
    """Stop a run whose train pipeline loses every object, or gives label maps or images of one value only.

    A copy of the pipeline is used and random numbers are drawn from a state that is restored, so that the run
    is the same with this hook and without it. Data sets that mix the samples of others are left out.
    """

    def before_train(self, runner: Runner) -> None:
        """Look, in the first process.

        Raises:
            UserError: nothing to learn comes out of the pipeline; it names the step after which it was gone.
        """
        dataset = runner.train_loop.dataloader.dataset
        while hasattr(dataset, 'dataset') and not hasattr(dataset, 'get_data_info'):
            dataset = dataset.dataset
        steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
        if steps and hasattr(dataset, 'get_data_info'):
            with random_state_kept():
                from_first_process(lambda: look(dataset, copy.deepcopy(steps)))


def look(dataset: torch.utils.data.Dataset, steps: list) -> None:
    """Send samples through the steps of a pipeline; see :class:`LookBeforeTrainingHook`."""
    end, found = time.monotonic() + _SECONDS, _Found()
    stride = max(1, len(dataset) // _TRIES)
    for index in islice(cycle(range(0, len(dataset), stride)), _TRIES):  # again: crops are random
        if time.monotonic() > end:
            break
        info = dataset.get_data_info(index)
        if 'instances' in info and not any(not one.get('ignore_flag') for one in info['instances']):
            continue  # an image without objects is no sign of anything
        try:
            found.add(info, steps)
        except Exception:  # an image that cannot be read, for example: the run reports or replaces it
            continue
        if found.is_fine:
            return
    if found.seen < _PROOF:
        return
    if len(found.lost) == found.seen:
        step = steps[min(found.lost)]
        what = 'object' if 'instances' in info else 'second value of the label maps'
        if 'instances' not in info and type(step).__name__.endswith('LoadAnnotations') and stride > 1:
            rank0_print(
                f'note: {found.seen} of {len(dataset)} label maps hold a single value: is that right?'
            )
            return  # of a rare class, others have it
        hint = ', which reads no RLE with poly2mask=False' if _reads_polygons_only(step) else ''
        raise UserError(
            f'nothing to learn: in {found.seen} tries no {what} is left after step {min(found.lost)} of the '
            f'train pipeline, {type(step).__name__}{hint}: check its settings and the annotations'
        )
    if found.constant == found.seen:
        raise UserError(
            f'nothing to learn: in {found.seen} tries an image comes out of the train pipeline with a single '
            'value: check the images and the steps that change colors'
        )


class _Found:
    """What came out of a pipeline: steps that lost everything, constant images, and values of label maps."""

    def __init__(self) -> None:
        self.seen = self.constant = 0
        self.lost: list[int] = []
        self.is_fine = False
        self._values: dict[int, set[int]] = {}  # after each step, of all images together

    def add(self, info: Mapping, steps: list) -> None:
        """Send a sample through the steps."""
        results, had, lost = copy.deepcopy(dict(info)), False, None
        for number, step in enumerate(steps):
            results = step(results)
            count = 0 if results is None else self._amount(results, number)
            if count == 0 and (had or results is None or type(step).__name__.endswith('LoadAnnotations')):
                lost = number
                break
            had |= bool(count)
        self.seen += 1
        if lost is not None:
            self.lost.append(lost)
            return
        image = results.get('inputs')
        is_constant = isinstance(image, torch.Tensor) and image.numel() and image.min() == image.max()
        self.constant += bool(is_constant)
        self.is_fine = not is_constant

    def _amount(self, results: Mapping, step: int) -> int | None:
        """Return the objects with an area, or the values of label maps but the first; None without both."""
        labels = results.get('gt_seg_map')
        if isinstance(labels, np.ndarray) and results.get('gt_bboxes') is None:  # panoptic data have both
            values = self._values.setdefault(step, set())
            values.update(np.unique(labels[labels != 255]).tolist())
            return max(0, len(values) - 1)
        return _objects(results)


def _objects(results: Mapping) -> int | None:
    """Return the number of objects with an area; None where there are no boxes."""
    boxes = results.get('gt_bboxes')
    if boxes is None:
        return None
    boxes = getattr(boxes, 'tensor', boxes)
    boxes = boxes.numpy() if isinstance(boxes, torch.Tensor) else np.asarray(boxes)
    kept = (boxes[:, 2:4] > boxes[:, :2]).all(1) if len(boxes) else np.zeros(0, bool)
    masks = results.get('gt_masks')
    if masks is not None and len(masks) == len(kept) and len(kept):
        kept &= np.asarray(masks.areas) > 0
    return int(kept.sum())


def _reads_polygons_only(step: object) -> bool:
    return type(step).__name__ == 'LoadAnnotations' and getattr(step, 'poly2mask', True) is False
