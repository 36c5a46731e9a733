"""What surrounds the model: loading and augmentation, COCO evaluation, and which of them an epoch waits for."""

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

from ..engine.config.adapt import fit_classes, fit_label_loading, fit_to_machine
from ..engine.config.load import load_config
from ..engine.config.validate import check_data
from ..utils.errors import UserError
from ..utils.files import replacing
from .throughput import machine

#: Seconds that loading is watched.
SECONDS = 15.0
#: Images and detections of the evaluation that is timed.
EVALUATED, DETECTIONS = 1000, 100


def measure_data(config_path: str, out: Path | None, command: str) -> str:
    """Measure a detection config's data path on this machine, print the page and write ``out.md``.

    Raises:
        UserError: no such config or data, or no detector.
    """
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    config = load_config(config_path)
    if config.get('default_scope') != 'mmdet':
        raise UserError(
            f'--data {config_path}: measured for detectors, and this is a config of {config.get("default_scope")!r}'
        )
    init_default_scope('mmdet')
    check_data(config, ('train',))
    fit_classes(config, 'train')
    fit_label_loading(config)
    fit_to_machine(config, 'none')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    where, rates = machine(device), {}
    processors = os.cpu_count() or 1
    for workers in (processors, 0):
        loader_config = dict(config.train_dataloader, num_workers=workers, persistent_workers=False)
        loader = Runner.build_dataloader(loader_config, seed=0)
        rates[workers] = _loading_rate(loader, config_path)
    step = _training_step(config, next(iter(loader)), device)
    batch = config.train_dataloader.batch_size
    sizes = f'{EVALUATED} images, {DETECTIONS} detections each, 80 classes'
    times = evaluation_times()
    slow, fast = times['pycocotools'], times.get('faster-coco-eval')
    text = f'# Data path\n\nWritten by `{command}`: {where["device"]}, {where["threads"]} threads, torch {where["torch"]}, '
    text += f'commit {where["commit"]}.\n\n'
    text += '| part | images/s |\n|---|---|\n'
    text += f'| loading and augmentation, in the training process | {rates[0]:.1f} |\n'
    text += f'| loading and augmentation, {processors} workers, nothing else running | {rates[processors]:.1f} |\n'
    text += f'| training step of the whole model, batch {batch}, {device} | {batch / step:.2f} |\n'
    text += f'| COCO box evaluation, pycocotools ({sizes}) | {EVALUATED / slow[0]:.0f} |\n'
    if fast is not None:
        difference = float(np.abs(np.subtract(slow[1], fast[1])).max())
        text += f'| the same, faster-coco-eval | {EVALUATED / fast[0]:.0f} |\n\n'
        text += f'The twelve figures of both differ by {difference:.1g} at most; `tools/train.py` and `tools/test.py` use '
        text += 'faster-coco-eval where it is installed.\n'
    model_bound = batch / step < rates[processors]
    factor = rates[processors] * step / batch
    waits = (
        f'the model: loading is {factor:.3g} times as fast'
        if model_bound
        else f'loading: the model is {1 / factor:.3g} times as fast'
    )
    text += f'\nAn epoch waits for **{waits}**.\n'
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out.with_name(f'{out.name}.md')) as temporary:
            temporary.write_text(text)
    return text


def _loading_rate(loader: DataLoader, name: str) -> float:
    """Images a second of a dataloader, after the batches that its workers fetched while nobody waited."""
    ahead = 1 + 2 * loader.num_workers
    if len(loader) <= ahead:
        raise UserError(
            f'--data {name}: {len(loader)} batches are too few to measure with {loader.num_workers} workers: more than {ahead}'
        )
    count, start, seconds = 0, 0.0, 0.0
    for i, batch in enumerate(loader):
        if i < ahead:
            start = time.perf_counter()
            continue
        count, seconds = count + len(batch['inputs']), time.perf_counter() - start
        if seconds > SECONDS:
            break
    return count / seconds


def _training_step(config: object, batch: dict, device: str, rounds: int = 3) -> float:
    """Seconds of forward and backward, median."""
    from ..engine.runner.build import build_untrained

    model = build_untrained(config.model).to(device).train()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        model.zero_grad()
        if device == 'cuda':
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]


def evaluation_times(
    images: int = EVALUATED, detections: int = DETECTIONS, seed: int = 0
) -> dict[str, tuple[float, list[float]]]:
    """Seconds and the twelve COCO figures of each evaluator that is installed, on the same made-up boxes.

    Args:
        images: number of images, each with 7 objects as COCO has.
        detections: of each image.
        seed: of everything random.
    """
    from mmdet.datasets.api_wrappers import COCO
    from pycocotools.cocoeval import COCOeval

    evaluators: dict[str, Callable] = {'pycocotools': COCOeval}
    with contextlib.suppress(ModuleNotFoundError):
        from faster_coco_eval import COCOeval_faster

        evaluators['faster-coco-eval'] = COCOeval_faster
    truth, found = _made_up(images, detections, np.random.default_rng(seed))
    results = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / 'truth.json'
        path.write_text(truth)
        coco = COCO(str(path))
        answers = coco.loadRes(found)
        for name, evaluator in evaluators.items():
            start = time.perf_counter()
            evaluation = evaluator(coco, answers, 'bbox')
            for work in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
                work()
            results[name] = (time.perf_counter() - start, [float(v) for v in evaluation.stats[:12]])
    return results


def _made_up(images: int, detections: int, rng: np.random.Generator) -> tuple[str, list[dict]]:
    """COCO json of random boxes, and detections: the boxes moved a little, and others."""
    truth, found = [], []
    for image in range(1, images + 1):
        for j in range(detections):
            w, h = (float(v) for v in rng.uniform(10, 300, 2))
            box = [float(rng.uniform(0, 640 - w)), float(rng.uniform(0, 480 - h)), w, h]
            label = int(rng.integers(1, 81))
            if j < 7:
                truth.append(
                    dict(
                        id=len(truth) + 1, image_id=image, category_id=label, bbox=box, area=w * h, iscrowd=0
                    )
                )
                box = [v + float(d) for v, d in zip(box, rng.normal(0, 0.08, 4) * [w, h, w, h], strict=True)]
            score = float(rng.uniform(0.2 if j < 7 else 0, 1 if j < 7 else 0.5))
            found.append(dict(image_id=image, category_id=label, bbox=box, score=score))
    sizes = [dict(id=i, file_name=f'{i}.jpg', width=640, height=480) for i in range(1, images + 1)]
    return json.dumps(
        dict(images=sizes, annotations=truth, categories=[dict(id=i, name=str(i)) for i in range(1, 81)])
    ), found
