"""What a benchmark leaves: JSON, a markdown page and pictures."""

import io
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..utils.files import replacing
from .paper import BOX_AP_WITH


def table(rows: Sequence[dict]) -> str:
    """Markdown table of one setting's rows."""
    first = rows[0]['model']
    lines = [
        f'| model | images/s | ms (median) | ms (p95) | peak memory, MiB | speed against {first} (quartiles) |',
        '|---|---|---|---|---|---|',
    ]
    for r in rows:
        peak = '' if r['peak_mib'] is None else f'{r["peak_mib"]:.0f}'
        lines.append(
            f'| {r["model"]} | {r["images_per_second"]:.3g} | {1e3 * r["seconds"]:.1f} | {1e3 * r["p95"]:.1f} | {peak} | '
            f'**{r["ratio"]:.2f}** ({r["ratio_low"]:.2f}-{r["ratio_high"]:.2f}) |'
        )
    return '\n'.join(lines)


def title(setting: dict) -> str:
    """A setting in words."""
    height, width = setting['size']
    words = [
        f'{setting["batch"]} x 3 x {height} x {width}',
        setting['dtype'],
        'training step' if setting['train'] else 'inference',
    ]
    words += ['channels-last'] * setting['channels_last'] + ['compiled'] * setting['compile']
    return ', '.join(words)


def write_page(groups: Sequence[Sequence[dict]], out: Path, command: str, extra: str = '') -> list[Path]:
    """Write ``out.json``, ``out.md`` and, where matplotlib is installed, the pictures that the rows allow; returns what was written.

    Args:
        groups: rows of each setting, as :func:`~fastervit_backbone.benchmark.throughput.record` gives them.
        out: path without ending.
        command: that measures this again.
        extra: markdown put after the tables.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    where = groups[0][0]['machine']
    versions = ', '.join(f'{k} {v}' for k, v in where['packages'].items())
    cuda = f' (CUDA {where["cuda"]})' if where['cuda'] else ''
    text = (
        f'# Speed on {where["device"]}\n\nWritten by `{command}`\n\n'
        f'{where["threads"]} threads, torch {where["torch"]}{cuda}, Python {where["python"]}{", " + versions if versions else ""}, '
        f'commit {where["commit"]}. All models of a table ran in one process by turns; the ratio is the median over the turns, its '
        'quartiles in brackets. Peak memory: tensors allocated during a call, without weights and images.\n'
    )
    written = [out.with_name(f'{out.name}.json'), out.with_name(f'{out.name}.md')]
    for rows in groups:
        text += f'\n## {title(rows[0]["setting"])}\n\n{table(rows)}\n'
    pictures = (('sizes', _sizes_picture), ('pareto', _pareto_picture)) if find_spec('matplotlib') else ()
    for name, draw in pictures:
        png = draw(groups)
        if png is not None:
            path = out.with_name(f'{out.name}_{name}.png')
            with replacing(path) as temporary:
                temporary.write_bytes(png)
            written.append(path)
            text += f'\n![{name}]({path.name})\n'
    with replacing(written[0]) as temporary:
        temporary.write_text(json.dumps([row for rows in groups for row in rows], indent=1) + '\n')
    with replacing(written[1]) as temporary:
        temporary.write_text(text + extra)
    return written


def _sizes_picture(groups: Sequence[Sequence[dict]]) -> bytes | None:
    """Megapixels a second against the megapixels of an image, a line a model; None for fewer than three sizes."""
    by_setting: dict[tuple, dict[str, list[tuple[float, float]]]] = {}
    for rows in groups:
        for r in rows:
            s = r['setting']
            pixels = s['size'][0] * s['size'][1] / 1e6
            key = (s['dtype'], s['train'], s['compile'], s['channels_last'])
            by_setting.setdefault(key, {}).setdefault(r['model'], []).append(
                (pixels, r['images_per_second'] * pixels)
            )
    models = next(iter(by_setting.values()))
    if max(len({p for p, _ in points}) for points in models.values()) < 3:
        return None
    figure, axis, plt = _axes()
    for name, points in models.items():
        axis.plot(*zip(*sorted(points), strict=True), marker='o', label=name)
    axis.set(xscale='log', xlabel='megapixels of an image', ylabel='megapixels a second', ylim=(0, None))
    axis.legend()
    return _png(figure, plt)


def _pareto_picture(groups: Sequence[Sequence[dict]]) -> bytes | None:
    """The paper's box AP with Cascade Mask R-CNN against images a second here; None below three different ones."""
    rows = next(
        (rows for rows in groups if len({BOX_AP_WITH.get(_base(r['model'])) for r in rows} - {None}) > 2),
        None,
    )
    if rows is None:
        return None
    figure, axis, plt = _axes()
    for r in rows:
        if _base(r['model']) in BOX_AP_WITH:
            x, y = r['images_per_second'], BOX_AP_WITH[_base(r['model'])]
            axis.plot(x, y, 'o', color='#cc3311' if r['model'].startswith('fastervit') else '#4477aa')
            axis.annotate(
                r['model'].removeprefix('timm:').removesuffix('_patch4_window7_224'),
                (x, y),
                xytext=(4, 4),
                textcoords='offset points',
                fontsize=7,
            )
    axis.set(
        xlabel=f'images/s: {title(rows[0]["setting"])}', ylabel="the paper's box AP (Cascade Mask R-CNN)"
    )
    axis.margins(x=0.2, y=0.1)
    return _png(figure, plt)


def _base(model: str) -> str:
    return model.removesuffix(':deploy')


def _axes() -> tuple:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5), constrained_layout=True)
    return figure, axis, plt


def _png(figure: object, plt: object) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=100)
    plt.close(figure)
    return file.getvalue()
