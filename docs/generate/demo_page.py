"""Write one page, index.html, about the runs of `make demo-all`: results, curves, pictures.

Example: python docs/generate/demo_page.py work_dirs/demo --record docs/trained.json
"""

import argparse
import json
import os
import platform
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fastervit_backbone.utils.commit import current_commit
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import check_file_writable, replacing
from fastervit_backbone.utils.html import data_uri, render
from fastervit_backbone.visualization.figures import new_figure, to_png
from fastervit_cli.console import run_cli
from fastervit_cli.options import parse_strictly

HEADS = {
    'cascade': 'Cascade Mask R-CNN',
    'dino': 'DINO',
    'mask2former': 'Mask2Former',
    'rtmdet-ins': 'RTMDet-Ins',
    'upernet': 'UPerNet',
    'fpn': 'Semantic FPN',
    'mask2former-semantic': 'Mask2Former, semantic',
    'mask2former-panoptic': 'Mask2Former, panoptic',
}
#: mmengine's metric -> (name, divisor to 0..1).
_METRICS = {
    'coco/bbox_mAP': ('box AP', 1),
    'coco/segm_mAP': ('mask AP', 1),
    'mIoU': ('mIoU', 100),
    'coco_panoptic/PQ': ('PQ', 100),
}
#: mmengine's folders of runs are named by their start.
_TIMESTAMP = re.compile(r'\d{8}_\d{6}')


@dataclass(frozen=True)
class Run:
    """A finished demo run.

    Attributes:
        head: a key of ``HEADS``.
        metrics: name -> value, 0..1.
        minutes: of training.
        seed: of training.
        log: mmengine's log of the training.
        overview: picture of predictions.
    """

    head: str
    metrics: dict[str, float]
    minutes: float
    seed: int | None
    log: Path
    overview: Path

    @property
    def config(self) -> str:
        """Name of the config."""
        return f'{self.head}_shapes'

    @property
    def result(self) -> str:
        """The metrics as text."""
        return ', '.join(f'{name} {value:.3f}' for name, value in self.metrics.items())


def read_run(folder: Path, head: str) -> Run:
    """Read a run that fastervit train and fastervit test left in ``folder``.

    Their options: ``--work-dir folder``; ``--out folder/metrics.json --show-dir folder/pictures``.

    Raises:
        UserError: a file is missing or broken.
    """
    last_checkpoint, metrics_path = folder / 'last_checkpoint', folder / 'metrics.json'
    overview = folder / 'pictures' / 'overview.png'
    logs = [p for p in folder.glob('*/vis_data/scalars.json') if _TIMESTAMP.match(p.parent.parent.name)]
    logs = sorted(p for p in logs if any('loss' in line for line in _read_lines(p)))  # no logs of tests
    if last_checkpoint.is_file():  # a later run, stopped before it saved anything, was not tested
        end = datetime.fromtimestamp(last_checkpoint.stat().st_mtime)
        logs = [p for p in logs if _start_time(p) <= end]
    missing = [p.name for p in (metrics_path, overview, last_checkpoint) if not p.is_file()]
    if missing or not logs:
        name = missing[0] if logs else 'a training log'
        raise UserError(f'{folder} contains no finished run ({name} is missing): run make demo-all')
    try:
        metrics = json.loads(metrics_path.read_text())['metrics']
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{metrics_path} is broken ({error}): run fastervit test with --out again') from error
    log = logs[-1]
    return Run(
        head=head,
        metrics={name: metrics[key] / scale for key, (name, scale) in _METRICS.items() if key in metrics},
        minutes=(end - _start_time(log)).total_seconds() / 60,
        seed=_seed(log.parent),
        log=log,
        overview=overview,
    )


def write_page(root: str | Path, record: str | Path | None = None) -> Path:
    """Write ``root/index.html``, which needs no other file, about the runs in ``root/cascade``, ``dino`` etc.

    Args:
        root: folder of the runs.
        record: json for the table of models, or None; logs are copied into ``logs`` beside it.

    Returns:
        path of the page.

    Raises:
        UserError: a run is missing or unfinished.
    """
    if record is not None:
        check_file_writable('--record', record)
    runs = [read_run(Path(root) / head, head) for head in HEADS]
    values = dict(runs=runs, heads=HEADS, machine=_machine(), curves=_curves, data_uri=data_uri)
    html = render('demo_page.html.j2', folder=Path(__file__).parent / 'templates', **values)
    page = Path(root) / 'index.html'
    with replacing(page) as temporary:
        temporary.write_text(html, encoding='utf-8')
    if record is not None:
        _write_record(runs, Path(record))
    return page


def _curves(run: Run) -> bytes:
    """Draw the training loss (left) and the validation metrics (right), as a PNG."""
    figure, (left, right) = new_figure((11, 3.2), columns=2)
    lines = _read_lines(run.log)
    losses = [(line['iter'], line['loss']) for line in lines if 'loss' in line]
    left.plot(*zip(*losses, strict=True))
    left.set(title='training loss', xlabel='iteration', ylim=(0, None))
    iteration = 0
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        iteration = line.get('iter', iteration)
        for key, (name, scale) in _METRICS.items():
            if key in line:
                curves.setdefault(name, []).append((iteration, line[key] / scale))
    for name, curve in curves.items():
        right.plot(*zip(*curve, strict=True), marker='o', label=name)
    right.set(title='validation', xlabel='iteration', ylim=(0, 1))
    right.legend(loc='lower right')
    return to_png(figure)


def _write_record(runs: list[Run], path: Path) -> None:
    logs = path.parent / 'logs'
    logs.mkdir(parents=True, exist_ok=True)
    commit, machine = current_commit(), _machine()
    known = json.loads(path.read_text()) if path.is_file() else []
    names = {run.config for run in runs}
    records = [record for record in known if record['config'] not in names]
    for run in runs:
        name = f'{run.config}.json'
        shutil.copyfile(run.log, logs / name)
        result = dict(config=run.config, result=run.result, minutes=round(run.minutes, 1), seed=run.seed)
        records.append(dict(result, commit=commit, log=f'logs/{name}', machine=machine))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(records, indent=2) + '\n')


def _machine() -> str:
    import torch

    cores = f'{platform.machine()}, {os.cpu_count()} cores'
    return f'{cores}, torch {torch.__version__}, Python {platform.python_version()}'


def _start_time(log: Path) -> datetime:
    return datetime.strptime(log.parent.parent.name[:15], '%Y%m%d_%H%M%S')


def _read_lines(path: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise UserError(f'{path} is truncated or broken ({error}): run make demo-all') from error


def _seed(folder: Path) -> int | None:
    from mmengine.config import Config

    path = folder / 'config.py'
    config = Config.fromfile(path) if path.is_file() else {}
    return (config.get('randomness') or {}).get('seed')


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', help='folder with the runs in cascade/, dino/, upernet/ and fpn/')
    parser.add_argument(
        '--record', metavar='FILE', help='also write the results shown in docs/models.md to this file'
    )
    args = parse_strictly(parser)
    print(f'written: {write_page(args.root, args.record)}')


if __name__ == '__main__':
    run_cli(main)
