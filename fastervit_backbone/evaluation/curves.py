"""Plot training logs of mmengine as curves, one or several runs per chart."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..utils.errors import UserError
from ..utils.files import replacing
from ..utils.suggest import did_you_mean
from ..visualization.figures import new_figure

#: Keys that are plotted by default, if the logs have them.
DEFAULT = ('loss', 'lr', 'coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'mIoU')
_EXPECTED = 'expected a work dir of fastervit train, or vis_data/scalars.json in one'


@dataclass(frozen=True)
class Log:
    """The log of a run.

    Args:
        name: shown in the legend.
        lines: one dict per logged iteration and evaluation, each with ``iter``, ascending.
    """

    name: str
    lines: list[dict]

    def curve(self, key: str) -> np.ndarray:
        """Return (points, 2): iteration and value, wherever the value is a number."""
        points = [(line['iter'], line[key]) for line in self.lines if isinstance(line.get(key), int | float)]
        return np.array(points, float).reshape(-1, 2)

    @property
    def keys(self) -> set[str]:
        """Keys with a number in some line."""
        return {k for line in self.lines for k, v in line.items() if isinstance(v, int | float)}


def read_log(path: str | Path) -> Log:
    """Read the log of a run.

    Args:
        path: a ``scalars.json``, the folder of one run, or a work dir. The runs of a work dir are joined:
            where one resumed another, its lines replace the other's from that iteration on.

    Raises:
        UserError: no log is found, or its lines are not JSON.
    """
    path = Path(path)
    files = [path]
    if not path.is_file():
        files = sorted(path.glob('**/vis_data/scalars.json'), key=lambda p: p.parent.parent.name)
    if not files:
        raise UserError(f'{path} has no training log: {_EXPECTED}')
    work_dirs = {file.parent.parent.parent for file in files}
    if path.is_dir() and len(work_dirs) > 1:
        names = ', '.join(sorted(folder.name for folder in work_dirs))
        raise UserError(f'{path} has logs of several work dirs ({names}): name them one by one')
    lines: list[dict] = []
    for file in files:
        run = _read_lines(file)
        start = next((line['iter'] for line in run if 'loss' in line), None)
        if start is not None:
            lines = [line for line in lines if line['iter'] < start] + run
    if not lines:
        raise UserError(f'{path}: its logs contain no training iteration')
    return Log(path.name if path.is_dir() else path.stem, lines)


def _read_lines(file: Path) -> list[dict]:
    """Read a ``scalars.json``; evaluations, which log only their epoch or iteration, get their iteration."""
    lines: list[dict] = []
    try:
        content = file.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f'{file} is not a log of mmengine: {_EXPECTED}') from error
    for number, text in enumerate(content, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(content):  # the run was killed while writing it
                break
            raise UserError(f'{file} line {number} is not JSON ({error}): {_EXPECTED}') from error
        if not isinstance(line, dict):
            kind = type(line).__name__
            raise UserError(f'{file} line {number} is a {kind}, not a record: {_EXPECTED}')
        lines.append(line)
    return _with_iterations(lines)


def _with_iterations(lines: Sequence[dict]) -> list[dict]:
    """Give evaluations the iteration that they were at, which may lie behind the last one that was logged."""
    first: dict[int, int] = {}  # logged iteration of each epoch; the same one in all
    for line in lines:
        if isinstance(line.get('epoch'), int) and isinstance(line.get('iter'), int):
            first.setdefault(line['epoch'], line['iter'])
    epochs = sorted(first)
    lengths = [first[b] - first[a] for a, b in itertools.pairwise(epochs) if b == a + 1]
    complete, iteration = [], 0
    for line in lines:
        if 'iter' in line:
            iteration = line['iter']
        elif isinstance(line.get('step'), int):
            at = line['step'] * min(lengths, default=0) if first else line['step']
            iteration = max(iteration, at)
        complete.append(line | dict(iter=iteration))
    return complete


def plot_logs(logs: Sequence[Log], out: str | Path, keys: Sequence[str] = (), smooth: int = 1) -> list[str]:
    """Draw a panel for each key, with a line for each run.

    Args:
        logs: the runs.
        out: picture to write; its suffix gives the format (.png, .svg, .pdf).
        keys: keys to plot; empty: those of ``DEFAULT`` that any log has.
        smooth: window of the moving average, in points; longer curves are drawn faintly, below their average.

    Returns:
        the keys that were plotted.

    Raises:
        UserError: no log has one of the keys, or matplotlib does not write that format.
    """
    out, existing = Path(out), set().union(*(log.keys for log in logs))
    missing = [k for k in keys if k not in existing]
    if missing:
        choices = sorted(existing - {'iter', 'step'})
        hint = did_you_mean(missing[0], choices)
        raise UserError(f'no log has {missing[0]!r}{hint}: choose from {", ".join(choices)}')
    if smooth < 1:
        raise UserError(f'--smooth {smooth}: must be at least 1 point')
    keys = list(keys) or [k for k in DEFAULT if k in existing]
    columns = min(3, len(keys))
    rows = -(-len(keys) // columns)
    figure, panels = new_figure((4.6 * columns, 3.2 * rows), rows, columns, squeeze=False)
    suffix = out.suffix.lstrip('.')
    if suffix not in figure.canvas.get_supported_filetypes():
        raise UserError(f'--out {out}: matplotlib writes .png, .svg or .pdf')
    for panel in panels.flat[len(keys) :]:
        panel.set_visible(False)
    for panel, key in zip(panels.flat, keys, strict=False):
        for i, log in enumerate(logs):
            _plot_curve(panel, log.curve(key), log.name, f'C{i}', 1 if key == 'lr' else smooth)
        panel.set(title=key, xlabel='iteration')
        panel.grid(alpha=0.3)
    if len(logs) > 1:
        panels[0, 0].legend(fontsize=8)
    with replacing(out) as temporary:
        figure.savefig(temporary, format=suffix, dpi=110)
    return keys


def _plot_curve(panel: object, points: np.ndarray, name: str, color: str, smooth: int) -> None:
    markers = dict(marker='o', markersize=3) if len(points) < 40 else {}
    if smooth == 1 or len(points) <= smooth:
        panel.plot(*points.T, color=color, label=name, **markers)
        return
    panel.plot(*points.T, color=color, alpha=0.25, **markers)
    averages = [np.convolve(values, np.full(smooth, 1 / smooth), 'valid') for values in points.T]
    panel.plot(*averages, color=color, label=name)
