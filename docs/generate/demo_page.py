"""Write one page, index.html, about the runs of `make demo-all`: results, curves, pictures.

Example: python docs/generate/demo_page.py work_dirs/demo --record docs/trained.json
"""

import argparse
import base64
import html
import io
import json
import os
import platform
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fastervit_backbone.utils.commit import current_commit
from fastervit_backbone.utils.console import parse_strictly, run_cli
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import check_file_writable, replacing

HEADS = {'cascade': 'Cascade Mask R-CNN', 'dino': 'DINO', 'upernet': 'UPerNet', 'fpn': 'Semantic FPN'}
_FIGURES = {'coco/bbox_mAP': ('box AP', 1), 'coco/segm_mAP': ('mask AP', 1), 'mIoU': ('mIoU', 100)}
_STAMP = re.compile(r'\d{8}_\d{6}')  # mmengine's folders of runs
_ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Run:
    """What a demo run left: ``figures`` are 0..1, ``minutes`` those of training, ``scalars`` mmengine's log, one dict a line."""

    head: str
    config: str
    figures: dict[str, float]
    minutes: float
    seed: int | None
    log: Path
    scalars: list[dict]
    overview: Path

    @property
    def result(self) -> str:
        """The figures in words."""
        return ', '.join(f'{name} {value:.3f}' for name, value in self.figures.items())


def read_run(folder: Path, head: str) -> Run:
    """A finished run, trained with ``--work-dir folder`` and tested with ``--out folder/metrics.json --show-dir folder/pictures``.

    Raises:
        UserError: something of it is missing.
    """
    last = folder / 'last_checkpoint'
    logs = sorted(p for p in folder.glob('*/vis_data/scalars.json') if _STAMP.match(p.parent.parent.name))
    logs = [p for p in logs if any('loss' in line for line in _lines(p))]
    if (
        last.is_file()
    ):  # a run that was broken off before it saved anything is not the one whose checkpoint was tested
        logs = [p for p in logs if _start(p) <= datetime.fromtimestamp(last.stat().st_mtime)]
    for path in (folder / 'metrics.json', folder / 'pictures' / 'overview.png', last):
        if not path.is_file() or not logs:
            raise UserError(
                f'{folder} holds no finished run ({path.name if logs else "a training log"} is missing): make demo-all'
            )
    start, end = _start(logs[-1]), datetime.fromtimestamp(last.stat().st_mtime)
    try:
        metrics = json.loads((folder / 'metrics.json').read_text())['metrics']
    except (ValueError, KeyError, TypeError) as error:
        path = folder / 'metrics.json'
        raise UserError(f'{path} is broken ({error}): run tools/test.py with --out {path} again') from error
    return Run(
        head=head,
        config=f'{head}_shapes',
        figures={name: metrics[key] / whole for key, (name, whole) in _FIGURES.items() if key in metrics},
        minutes=(end - start).total_seconds() / 60,
        seed=_seed(logs[-1].parent),
        log=logs[-1],
        scalars=_lines(logs[-1]),
        overview=folder / 'pictures' / 'overview.png',
    )


def write_page(root: str | Path, record: str | Path | None = None) -> Path:
    """Write ``root/index.html`` about the runs in ``root/cascade``, ``dino``, ``upernet`` and ``fpn``; it needs no other file.

    Args:
        root: folder of the runs.
        record: json for the table of models; logs are copied into ``logs`` beside it. None writes none.

    Returns:
        the page.

    Raises:
        UserError: a run is missing or unfinished.
    """
    if record is not None:
        check_file_writable('--record', record)
    runs = [read_run(Path(root) / head, head) for head in HEADS]
    page = Path(root) / 'index.html'
    with replacing(page) as temporary:
        temporary.write_text(_page(runs), encoding='utf-8')
    if record is not None:
        _record(runs, Path(record))
    return page


def _page(runs: list[Run]) -> str:
    rows = ''.join(
        f'<tr><td><a href="#{r.head}">{HEADS[r.head]}</a></td><td>{html.escape(r.result)}</td><td>{r.minutes:.1f}</td></tr>'
        for r in runs
    )
    sections = ''.join(
        f'<h2 id="{r.head}">{HEADS[r.head]}</h2><p>{html.escape(r.result)}; {r.minutes:.1f} minutes of training, seed {r.seed}. '
        f'<code>configs/demo/{r.config}.py</code></p><img alt="loss and metric over the iterations" src="{_data(_curves(r))}">'
        f'<img alt="ground truth left, prediction right" src="{_data(r.overview.read_bytes())}"><p>Ground truth left, prediction right.</p>'
        for r in runs
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>FasterViT demos</title><style>body{font:16px/1.5 sans-serif;'
        'max-width:60rem;margin:2rem auto;padding:0 1rem}img{max-width:100%}td,th{padding:.2rem 1rem;text-align:left}</style>'
        f'<h1>FasterViT demos</h1><p>Trained from nothing on the generated shapes by <code>make demo-all</code>: {_machine()}.</p>'
        f'<table><tr><th>head</th><th>result</th><th>minutes</th></tr>{rows}</table>{sections}</html>\n'
    )


def _curves(run: Run) -> bytes:
    """PNG: the loss on the left, the validation metrics on the right."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2), constrained_layout=True)
    losses = [(line['iter'], line['loss']) for line in run.scalars if 'loss' in line]
    left.plot(*zip(*losses, strict=True))
    left.set(title='training loss', xlabel='iteration', ylim=(0, None))
    last = 0
    points: dict[str, list[tuple[int, float]]] = {}
    for line in run.scalars:
        last = line.get('iter', last)
        for key, (name, whole) in _FIGURES.items():
            if key in line:
                points.setdefault(name, []).append((last, line[key] / whole))
    for name, curve in points.items():
        right.plot(*zip(*curve, strict=True), marker='o', label=name)
    right.set(title='validation', xlabel='iteration', ylim=(0, 1))
    right.legend(loc='lower right')
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=100)
    plt.close(figure)
    return file.getvalue()


def _record(runs: list[Run], path: Path) -> None:
    logs = path.parent / 'logs'
    logs.mkdir(parents=True, exist_ok=True)
    commit = current_commit()
    records = []
    for run in runs:
        shutil.copyfile(run.log, logs / f'{run.config}.json')
        log = f'logs/{run.config}.json'
        minutes = round(run.minutes, 1)
        records.append(
            dict(
                config=run.config,
                result=run.result,
                minutes=minutes,
                seed=run.seed,
                commit=commit,
                log=log,
                machine=_machine(),
            )
        )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(records, indent=2) + '\n')


def _machine() -> str:
    import torch

    return f'{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}'


def _data(png: bytes) -> str:
    return 'data:image/png;base64,' + base64.b64encode(png).decode()


def _start(log: Path) -> datetime:
    return datetime.strptime(log.parent.parent.name[:15], '%Y%m%d_%H%M%S')


def _lines(path: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise UserError(
            f'{path} is cut off or broken ({error}): remove it and run make demo-all again'
        ) from error


def _seed(folder: Path) -> int | None:
    from mmengine.config import Config

    config = Config.fromfile(folder / 'config.py') if (folder / 'config.py').is_file() else {}
    return (config.get('randomness') or {}).get('seed')


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', help='folder with the runs in cascade/, dino/, upernet/ and fpn/')
    parser.add_argument(
        '--record', metavar='FILE', help='also write the results that docs/models.md shows to this file'
    )
    args = parse_strictly(parser)
    print(f'written: {write_page(args.root, args.record)}')


if __name__ == '__main__':
    run_cli(main)
