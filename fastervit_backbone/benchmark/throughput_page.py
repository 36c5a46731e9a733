"""Write the results of a benchmark: JSON, a markdown page and pictures."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..utils.files import replacing
from ..visualization.figures import new_figure, to_png
from .paper import PAPER_BOX_AP


def table(rows: Sequence[dict]) -> str:
    """Format the rows of one setting as a markdown table."""
    first = rows[0]['model']
    has_files = any(r.get('file_mib') for r in rows)
    compiles = any(r['setting']['compile'] or r['model'].endswith(':compile') for r in rows)
    more = ' file, MiB | accuracy |' if has_files else ''
    more += ' first call, s |' if compiles else ''
    lines = [
        '| model | images/s | ms (median) | ms (p95) | peak memory, MiB '
        f'| speed against {first} (quartiles) |{more}',
        '|---|---|---|---|---|---|' + '---|---|' * has_files + '---|' * compiles,
    ]
    for r in rows:
        peak = '' if r['peak_mib'] is None else f'{r["peak_mib"]:.0f}'
        size = f'{r["file_mib"]:.1f}' if r.get('file_mib') else ''
        more = f' {size} | {r["accuracy"]} |' if has_files else ''
        more += f' {r["first_seconds"]:.1f} |' if compiles else ''
        lines.append(
            f'| {r["model"]} | {r["images_per_second"]:.3g} | {1e3 * r["seconds"]:.1f} '
            f'| {1e3 * r["p95"]:.1f} | {peak} '
            f'| **{r["ratio"]:.2f}** ({r["ratio_low"]:.2f}-{r["ratio_high"]:.2f}) |{more}'
        )
    return '\n'.join(lines)


def title(setting: dict) -> str:
    """Describe a setting in one line."""
    height, width = setting['size']
    shape = f'{setting["batch"]} x 3 x {height} x {width}'
    if setting.get('photographs'):
        shape = f'{setting["batch"]} photographs one by one, fitted into {height} x {width}'
    parts = [shape, setting['dtype'], 'training step' if setting['train'] else 'inference']
    if setting.get('objects'):
        parts.append(f'{setting["objects"]} objects an image')
    parts += ['channels-last'] * setting['channels_last'] + ['compiled'] * setting['compile']
    return ', '.join(parts)


def write_page(groups: Sequence[Sequence[dict]], out: Path, command: str) -> list[Path]:
    """Write ``out.json``, ``out.md`` and, if matplotlib is installed, the pictures that the rows suffice for.

    Args:
        groups: rows of each setting, from :func:`~fastervit_backbone.benchmark.throughput.to_records`.
        out: path without suffix.
        command: that made the page.

    Returns:
        paths of the files.
    """
    machine = groups[0][0]['machine']
    cuda = f' (CUDA {machine["cuda"]})' if machine['cuda'] else ''
    packages = ''.join(f', {name} {version}' for name, version in machine['packages'].items())
    text = (
        f'# Speed on {machine["device"]}\n\nWritten by `{command}`\n\n'
        f'{machine["threads"]} threads, torch {machine["torch"]}{cuda}, Python {machine["python"]}'
        f'{packages}, commit {machine["commit"]}. All models of a table ran interleaved in one process; the '
        'ratio is the median over the turns, with its quartiles in parentheses. Peak memory: tensors '
        'allocated during a call, without weights and images.\n'
    )
    is_photographs = groups[0][0]['setting'].get('photographs')
    if any(row.get('file_mib') for rows in groups for row in rows) and not is_photographs:
        text += (
            '\nExported files run in their own runtime; their memory is what loading and running them adds '
            'to a fresh process, weights included, and their accuracy is that of the very file (its json).\n'
        )
    for rows in groups:
        text += f'\n## {title(rows[0]["setting"])}\n\n{table(rows)}\n'
    json_path, page_path = out.with_name(f'{out.name}.json'), out.with_name(f'{out.name}.md')
    paths = [json_path, page_path]
    pictures = (('sizes', _sizes_picture), ('pareto', _pareto_picture)) if find_spec('matplotlib') else ()
    for name, draw in pictures:
        png = draw(groups)
        if png is not None:
            path = out.with_name(f'{out.name}_{name}.png')
            with replacing(path) as temporary:
                temporary.write_bytes(png)
            paths.append(path)
            text += f'\n![{name}]({path.name})\n'
    with replacing(json_path) as temporary:
        temporary.write_text(json.dumps([row for rows in groups for row in rows], indent=1) + '\n')
    with replacing(page_path) as temporary:
        temporary.write_text(text)
    return paths


def _sizes_picture(groups: Sequence[Sequence[dict]]) -> bytes | None:
    """Plot megapixels per second against megapixels per image by model; None for less than three sizes."""
    curves_by_setting: dict[tuple, dict[str, list[tuple[float, float]]]] = {}
    for r in (row for rows in groups for row in rows):
        s = r['setting']
        megapixels = s['size'][0] * s['size'][1] / 1e6
        key = (s['dtype'], s['train'], s['compile'], s['channels_last'])
        curve = curves_by_setting.setdefault(key, {}).setdefault(r['model'], [])
        curve.append((megapixels, r['images_per_second'] * megapixels))
    curves = next(iter(curves_by_setting.values()))
    if max(len({x for x, _ in curve}) for curve in curves.values()) < 3:
        return None
    figure, axis = new_figure((8, 4.5))
    for model, curve in curves.items():
        axis.plot(*zip(*sorted(curve), strict=True), marker='o', label=model)
    axis.set(xscale='log', xlabel='megapixels per image', ylabel='megapixels per second', ylim=(0, None))
    axis.legend()
    return to_png(figure)


def _pareto_picture(groups: Sequence[Sequence[dict]]) -> bytes | None:
    """Plot the paper's Cascade Mask R-CNN box AP against images per second; None for less than three APs."""
    for rows in groups:
        box_aps = [PAPER_BOX_AP.get(r['model'].removesuffix(':deploy')) for r in rows]
        if len(set(box_aps) - {None}) >= 3:
            break
    else:
        return None
    figure, axis = new_figure((8, 4.5))
    for r, box_ap in zip(rows, box_aps, strict=True):
        if box_ap is None:
            continue
        point, name = (r['images_per_second'], box_ap), r['model']
        axis.plot(*point, 'o', color='#cc3311' if name.startswith('fastervit') else '#4477aa')
        label = name.removeprefix('timm:').removesuffix('_patch4_window7_224')
        axis.annotate(label, point, xytext=(4, 4), textcoords='offset points', fontsize=7)
    axis.set_xlabel(f'images/s: {title(rows[0]["setting"])}')
    axis.set_ylabel("the paper's box AP (Cascade Mask R-CNN)")
    axis.margins(x=0.2, y=0.1)
    return to_png(figure)
