"""Measure what surrounds the model, loading and COCO evaluation, and whether an epoch waits for loading."""

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..engine.config.adaptations import fit_to_machine
from ..engine.config.checks import check_data
from ..engine.config.classes import fit_classes, fit_label_loading
from ..engine.config.load import load_config
from ..engine.load_image import use_one_decoder
from ..utils.errors import UserError
from ..utils.files import replacing
from .throughput import describe_machine

#: Duration of the measurement of a dataloader.
SECONDS = 15.0
#: Images, and detections per image, of the timed evaluation.
EVALUATED, DETECTIONS = 1000, 100


def measure_data(config_path: str, out: Path | None, command: str) -> str:
    """Measure a detection config's data path on this machine, print the page, and write ``out.md`` if given.

    Raises:
        UserError: no such config or data, or not a detector.
    """
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    config = load_config(config_path)
    scope = config.get('default_scope')
    if scope != 'mmdet':
        raise UserError(f'--data {config_path}: supports only detectors, and this is a config of {scope!r}')
    init_default_scope('mmdet')
    use_one_decoder('mmdet')
    check_data(config, ('train',))
    fit_classes(config, 'train')
    fit_label_loading(config)
    fit_to_machine(config, 'none')

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    machine = describe_machine(device)
    num_workers = os.cpu_count() or 1
    loading_rates = {}  # workers -> images per second
    for count in (num_workers, 0):
        loader_config = dict(config.train_dataloader, num_workers=count, persistent_workers=False)
        loader = Runner.build_dataloader(loader_config, seed=0)
        loading_rates[count] = _loading_rate(loader, config_path)
    batch = config.train_dataloader.batch_size
    model_rate = batch / _step_seconds(config, next(iter(loader)), device)
    evaluations = evaluation_times()

    rows = [
        '| part | images/s |\n|---|---|',
        f'| loading and augmentation, in the training process | {loading_rates[0]:.1f} |',
        f'| loading and augmentation, {num_workers} workers, nothing else running '
        f'| {loading_rates[num_workers]:.1f} |',
        f'| training step of the whole model, batch {batch}, {device} | {model_rate:.2f} |',
    ]
    heading = (
        f'Written by `{command}`: {machine["device"]}, {machine["threads"]} threads, '
        f'torch {machine["torch"]}, commit {machine["commit"]}.\n'
    )
    factor = loading_rates[num_workers] / model_rate
    if factor > 1:
        bottleneck = f'the model: loading is {factor:.3g} times as fast'
    else:
        bottleneck = f'loading: the model is {1 / factor:.3g} times as fast'
    last = f'\nAn epoch waits for **{bottleneck}**.\n'
    text = '\n'.join(['# Data path\n', heading, *rows, *_evaluation_rows(evaluations), last])
    print(text)
    if out is not None:
        with replacing(out.with_name(f'{out.name}.md')) as temporary:
            temporary.write_text(text)
    return text


def _evaluation_rows(evaluations: dict[str, tuple[float, np.ndarray]]) -> list[str]:
    seconds, metrics = evaluations['pycocotools']
    rows = [
        f'| COCO box evaluation, pycocotools ({EVALUATED} images, {DETECTIONS} detections each, 80 classes) '
        f'| {EVALUATED / seconds:.0f} |'
    ]
    if 'faster-coco-eval' in evaluations:
        fast_seconds, fast_metrics = evaluations['faster-coco-eval']
        difference = np.abs(np.subtract(metrics, fast_metrics)).max()
        rows += [
            f'| the same, faster-coco-eval | {EVALUATED / fast_seconds:.0f} |\n',
            f'The twelve metrics of both differ by at most {difference:.1g}; `fastervit train` and '
            '`fastervit test` use faster-coco-eval where it is installed.',
        ]
    return rows


def _loading_rate(loader: DataLoader, config_path: str) -> float:
    """Measure images per second of a dataloader, after the batches that its workers prefetch."""
    prefetched = 1 + 2 * loader.num_workers
    if len(loader) <= prefetched:
        raise UserError(
            f'--data {config_path}: {len(loader)} batches are too few to measure '
            f'{loader.num_workers} workers: more than {prefetched} are needed'
        )
    num_images, start, seconds = 0, 0.0, 0.0
    for i, batch in enumerate(loader):
        if i < prefetched:
            start = time.perf_counter()
            continue
        num_images += len(batch['inputs'])
        seconds = time.perf_counter() - start
        if seconds > SECONDS:
            break
    return num_images / seconds


def _step_seconds(config: object, batch: dict, device: str, rounds: int = 3) -> float:
    """Measure the median seconds of forward and backward."""
    from ..engine.runner.build import build_untrained

    model = build_untrained(config.model).to(device).train()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        model.zero_grad()
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[rounds // 2]


def evaluation_times(
    images: int = EVALUATED, detections: int = DETECTIONS, seed: int = 0
) -> dict[str, tuple[float, list[float]]]:
    """Run every installed COCO evaluator on the same random boxes.

    Args:
        images: number of images, each with 7 objects, as in COCO.
        detections: per image.
        seed: for all randomness.

    Returns:
        evaluator -> (seconds, the twelve COCO metrics).
    """
    from mmdet.datasets.api_wrappers import COCO
    from pycocotools.cocoeval import COCOeval

    evaluators: dict[str, Callable] = {'pycocotools': COCOeval}
    with contextlib.suppress(ModuleNotFoundError):
        from faster_coco_eval import COCOeval_faster

        evaluators['faster-coco-eval'] = COCOeval_faster
    ground_truth, results = _random_boxes(images, detections, np.random.default_rng(seed))
    times = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / 'ground_truth.json'
        path.write_text(json.dumps(ground_truth))
        coco = COCO(str(path))
        coco_results = coco.loadRes(results)
        for name, evaluator in evaluators.items():
            start = time.perf_counter()
            evaluation = evaluator(coco, coco_results, 'bbox')
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            times[name] = (time.perf_counter() - start, [float(v) for v in evaluation.stats[:12]])
    return times


def _random_boxes(images: int, detections: int, rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Create a COCO dict of random boxes, and detections: those boxes slightly moved, and others."""
    objects, results = [], []
    for image in range(1, images + 1):
        for j in range(detections):
            is_object = j < 7
            w, h = (float(v) for v in rng.uniform(10, 300, 2))
            box = [float(rng.uniform(0, 640 - w)), float(rng.uniform(0, 480 - h)), w, h]
            common = dict(image_id=image, category_id=int(rng.integers(1, 81)))
            if is_object:
                objects.append(dict(common, id=len(objects) + 1, bbox=box, area=w * h, iscrowd=0))
                shift = rng.normal(0, 0.08, 4) * [w, h, w, h]
                box = [v + float(d) for v, d in zip(box, shift, strict=True)]
            score = float(rng.uniform(0.2, 1) if is_object else rng.uniform(0, 0.5))
            results.append(dict(common, bbox=box, score=score))
    entries = [dict(id=i, file_name=f'{i}.jpg', width=640, height=480) for i in range(1, images + 1)]
    categories = [dict(id=i, name=str(i)) for i in range(1, 81)]
    return dict(images=entries, annotations=objects, categories=categories), results
