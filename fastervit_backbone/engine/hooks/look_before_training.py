"""Look at a few samples of the train pipeline before a run: whether anything to learn comes out of it."""

import copy
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...utils.errors import UserError

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
        if runner.rank == 0:
            dataset = runner.train_loop.dataloader.dataset
            while hasattr(dataset, 'dataset') and not hasattr(dataset, 'get_data_info'):
                dataset = dataset.dataset
            steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
            if steps and hasattr(dataset, 'get_data_info'):
                with _same_random_numbers():
                    look(dataset, copy.deepcopy(steps))


def look(dataset: torch.utils.data.Dataset, steps: list) -> None:
    """Send samples through the steps of a pipeline; see :class:`LookBeforeTrainingHook`."""
    end, lost, seen, constant, every = time.monotonic() + _SECONDS, [], 0, 0, True
    for index in range(0, len(dataset), max(1, len(dataset) // _TRIES)):
        if time.monotonic() > end:
            every = False
            break
        info = dataset.get_data_info(index)
        if 'instances' in info and not any(not one.get('ignore_flag') for one in info['instances']):
            continue  # an image without objects is no sign of anything
        seen += 1
        gone = _step_that_loses(info, steps)
        if gone is None:
            return
        if gone == -1:
            constant += 1
        else:
            lost.append(gone)
    if seen < _PROOF and not (every and len(dataset) <= _TRIES):
        return
    if seen and len(lost) == seen:
        name = type(steps[min(lost)]).__name__
        what = 'object' if 'instances' in info else 'second value of the label maps'
        hint = ', which reads no RLE with poly2mask=False' if _reads_polygons_only(steps[min(lost)]) else ''
        raise UserError(
            f'nothing to learn: of {seen} training images no {what} is left after step {min(lost)} of the '
            f'train pipeline, {name}{hint}: check its settings and the annotations'
        )
    if seen and constant == seen:
        raise UserError(
            f'nothing to learn: {seen} training images come out of the train pipeline with a single value: '
            'check the images and the steps that change colors'
        )


def _step_that_loses(info: Mapping, steps: list) -> int | None:
    """Return the step after which nothing to learn is left; -1: the image is constant; None: it is fine."""
    results, had = copy.deepcopy(dict(info)), False
    for number, step in enumerate(steps):
        after = step(results)
        if after is None:  # the data set draws another sample then
            return number
        count = _amount(after)
        if count == 0 and (had or type(step).__name__.endswith('LoadAnnotations')):
            return number
        had |= bool(count)
        results = after
    image = results.get('inputs')
    if isinstance(image, torch.Tensor) and image.numel() and image.min() == image.max():
        return -1
    return None


def _amount(results: Mapping) -> int | None:
    """Return the objects with an area, or the values of a label map beyond the first; None without both."""
    labels = results.get('gt_seg_map')
    if isinstance(labels, np.ndarray):
        return len(np.unique(labels[labels != 255])) - 1 if labels.size else 0
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


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
