"""Training logs of mmengine as curves, of one or several runs beside each other."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..utils.errors import UserError
from ..utils.files import replacing

#: What is drawn where nothing is named: the first panels that the logs have.
DEFAULT = ('loss', 'lr', 'coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'mIoU')


@dataclass(frozen=True)
class Log:
    """A run.

    Args:
        name: in the legend.
        lines: one dict for every logged iteration and evaluation, each with ``iter``, rising.
    """

    name: str
    lines: list[dict]

    def curve(self, key: str) -> np.ndarray:
        """(points, 2): iteration and value, where the value is a number."""
        points = [(line['iter'], line[key]) for line in self.lines if isinstance(line.get(key), int | float)]
        return np.array(points, float).reshape(-1, 2)

    @property
    def keys(self) -> set[str]:
        """What it logged."""
        return {k for line in self.lines for k, v in line.items() if isinstance(v, int | float)}


def read_log(path: str | Path) -> Log:
    """A work dir (all its runs in order; where one resumed another, what it did again replaces what was), a run's folder or its json.

    Raises:
        UserError: no log there, or lines that are no JSON.
    """
    path = Path(path)
    files = (
        [path]
        if path.is_file()
        else sorted(path.glob('**/vis_data/scalars.json'), key=lambda p: p.parent.parent.name)
    )
    if not files:
        raise UserError(
            f'{path} has no training log: expected a work dir of tools/train.py, or vis_data/scalars.json in one'
        )
    runs = {file.parent.parent.parent for file in files}
    if path.is_dir() and len(runs) > 1:
        raise UserError(
            f'{path} has logs of several work dirs, {", ".join(sorted(r.name for r in runs))}: name them one by one'
        )
    lines: list[dict] = []
    for file in files:
        new = _read(file)
        first = next((line['iter'] for line in new if 'loss' in line), None)
        if first is not None:
            lines = [line for line in lines if line['iter'] < first]
            lines += new
    if not lines:
        raise UserError(f'{path}: its logs hold no training iteration')
    return Log(path.name if path.is_dir() else path.stem, lines)


def _read(file: Path) -> list[dict]:
    lines, last = [], 0
    try:
        content = file.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f'{file} is no log of mmengine: expected a work dir, or vis_data/scalars.json in one'
        ) from error
    for number, text in enumerate(content, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(content):  # a run killed while writing it
                break
            raise UserError(f'{file} line {number} is no JSON ({error}): is it a log of mmengine?') from error
        if not isinstance(line, dict):
            raise UserError(
                f'{file} line {number} is {type(line).__name__}, not a record: is it a log of mmengine?'
            )
        last = line.get('iter', last)  # evaluations know their epoch alone
        lines.append(line | dict(iter=last))
    return lines


def plot_logs(logs: Sequence[Log], out: str | Path, keys: Sequence[str] = (), smooth: int = 1) -> list[str]:
    """Draw a panel for each key, a line for each run.

    Args:
        logs: the runs.
        out: a file; its suffix says the format (.png, .svg, .pdf).
        keys: what to draw; empty: those of ``DEFAULT`` that some log has.
        smooth: points of the moving mean drawn over a curve of more points than that.

    Returns:
        the keys drawn.

    Raises:
        UserError: a key that no log has, or a format that matplotlib has not.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    out, there = Path(out), set().union(*(log.keys for log in logs))
    missing = [k for k in keys if k not in there]
    if missing:
        raise UserError(f'no log has {missing[0]!r}: there are {", ".join(sorted(there - {"iter", "step"}))}')
    if smooth < 1:
        raise UserError(f'--smooth {smooth}: at least 1 point')
    drawn = list(keys) or [k for k in DEFAULT if k in there]
    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(4.6 * columns, 3.2 * rows), squeeze=False, layout='constrained'
    )
    if out.suffix.lstrip('.') not in figure.canvas.get_supported_filetypes():
        plt.close(figure)
        raise UserError(f'--out {out}: matplotlib writes .png, .svg or .pdf')
    for panel in panels.flat[len(drawn) :]:
        panel.set_visible(False)
    for panel, key in zip(panels.flat, drawn, strict=False):
        for i, log in enumerate(logs):
            points, colour = log.curve(key), f'C{i}'
            rough = smooth > 1 and len(points) > smooth and key != 'lr'
            few = dict(marker='o', markersize=3) if len(points) < 40 else {}
            panel.plot(
                *points.T, color=colour, alpha=0.25 if rough else 1, label=None if rough else log.name, **few
            )
            if rough:
                means = np.stack([np.convolve(c, np.full(smooth, 1 / smooth), 'valid') for c in points.T])
                panel.plot(*means, color=colour, label=log.name)
        panel.set(title=key, xlabel='iteration')
        panel.grid(alpha=0.3)
    if len(logs) > 1:
        panels[0, 0].legend(fontsize=8)
    with replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix.lstrip('.'), dpi=110)
    plt.close(figure)
    return drawn
