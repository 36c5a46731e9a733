"""Write a page: parameters and FLOPs of every config, the paper's results, and what was trained here.

Example: python docs/generate/model_table.py --config configs/upernet_fastervit2_160k.py
docs/models.md, in minutes: python docs/generate/model_table.py --markdown docs/models.md
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from fastervit_backbone.benchmark.complexity import Complexity, measure
from fastervit_backbone.benchmark.config_models import build_config_model
from fastervit_backbone.benchmark.paper import PAPER_RESULTS, PaperResult
from fastervit_backbone.engine.config.channels import check_channels
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.recipes import RECIPES
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import check_file_writable, replacing
from fastervit_cli.console import run_cli
from fastervit_cli.options import parse_strictly

ROOT = Path(__file__).resolve().parent.parent.parent
#: Results of `make demo-all`, written by docs/generate/demo_page.py --record.
TRAINED = ROOT / 'docs' / 'trained.json'
#: (height, width) of the images that are counted: of the papers, and of the demos.
DETECTION, SEGMENTATION, DEMO = (800, 1280), (512, 2048), (128, 160)
#: Side of the images that a classifier is trained on: by the end of its name, else by the data.
SIDES = {'w8': 256, 'w12': 384, 'w16': 512, 'w24': 768}
#: Relative difference to the paper's multiply-adds above which a row reports it; papers round to 1e9.
TOLERANCE = 0.01
#: Start of a config's name -> section of the page.
_SECTIONS = {name: recipe.section for name, recipe in RECIPES.items()} | {
    'imagenet': RECIPES['classifier'].section,
    'cifar10': 'Classifiers, CIFAR-10',
    'demo': 'Demos, the generated shapes',
    '': 'Other configs',
}
_HEADER = (
    '| config | params, M (backbone) | GFLOPs (backbone) | GMACs | paper: accuracy | paper: img/s '
    '| paper: GMACs | trained here |\n'
    '|---|---|---|---|---|---|---|---|'
)
_EXPLANATION = """\
- **params, GFLOPs, GMACs** are counted with torch's FLOP counter in one forward pass of the whole model in
  eval mode, batch 1, at 1280x800 (detection), 2048x512 (segmentation), 160x128 (demos) and the size of
  training (classifiers). Counted are matrix
  products, convolutions and attention, including the tokens that pad FasterViT's last windows. Not counted
  are FasterViT's position MLPs (cached in eval mode), norms, activations, sampling (RoIAlign, deformable
  attention) and NMS. A multiply-add is two FLOPs and one MAC. Two-stage detectors are counted with 1000
  proposals for the box heads and 100 for the mask heads. Parameters include auxiliary heads.
- **paper** columns are what arXiv 2306.06189 prints: its accuracy, its images per second (on its A100, not
  measured here) and its "FLOPs", which are multiply-adds. Where our count differs by more than 1%, the row
  says by how much. An empty cell means that the paper has no such row, or that its figure is not entered
  here. The figures have not been checked against the PDF again: do that before citing one. Our counts of the
  peers in table 4 agree with the paper's within 0.2%, which supports both; those of FasterViT do not, and we
  do not know what the paper left out. Table S.5 does not say how many scales its DINO has: its rows stand
  beside 4.
- **trained here**: result, log, seed and commit. "not trained here" means that nobody has run this recipe in
  this repository yet.
"""


def write_table(configs: Sequence[str] | None = None, page: str | Path | None = None) -> str:
    """Count configs, print each row when it is done, and write the page.

    Args:
        configs: paths; None for every leaf under configs/.
        page: markdown file to write, or None.

    Returns:
        the page.

    Raises:
        UserError: no such config.
    """
    paths = [Path(c) for c in configs] if configs else leaf_configs()
    for path in paths:
        check_channels(load_config(path))  # report errors before the first count
    if page is not None:
        check_file_writable('--markdown', page)
    text = _preamble(configs, page)
    trained = _read_trained()
    print(_HEADER, flush=True)
    rows: dict[str, list[str]] = {}
    for path in paths:
        row = _row(path, trained.get(path.stem, 'not trained here'))
        print(row, flush=True)
        rows.setdefault(_section(path), []).append(row)
    for title in dict.fromkeys(_SECTIONS.values()):
        if title in rows:
            text += '\n'.join([f'\n## {title}\n', _HEADER, *rows[title], ''])
    if page is not None:
        with replacing(Path(page)) as temporary:
            temporary.write_text(text)
    return text


def leaf_configs() -> list[Path]:
    """List every config that a run can use: all under configs/ except the bases."""
    folder = ROOT / 'configs'
    leaves = (path for path in folder.rglob('*.py') if '_base_' not in path.parts)
    return sorted(leaves, key=lambda path: (path.parent != folder, path))


def _row(path: Path, trained: str) -> str:
    model, config = build_config_model(path)
    cost = measure(model, _image_size(path, config.default_scope))
    paper = PAPER_RESULTS.get(path.stem)
    columns = [
        f'`{path.name}`' if path.parent.name in ('configs', 'demo') else f'`{path.parent.name}/{path.name}`',
        f'{cost.parameters / 1e6:.1f} ({cost.backbone_parameters / 1e6:.1f})',
        f'{_giga(cost.flops)} ({_giga(cost.backbone_flops)})',
        _giga(cost.macs),
        _accuracy(paper),
        str(paper.throughput) if paper and paper.throughput else '',
        _compare_macs(cost, paper.gmacs) if paper and paper.gmacs else '',
        trained,
    ]
    return '| ' + ' | '.join(columns) + ' |'


def _giga(count: int) -> str:
    return f'{count / 1e9:.0f}' if count >= 1e10 else f'{count / 1e9:.2f}'


def _accuracy(paper: PaperResult | None) -> str:
    if paper is None:
        return ''
    return paper.accuracy + (f' (table {paper.table})' if paper.table else '')


def _compare_macs(cost: Complexity, gmacs: float) -> str:
    """Format the paper's GMACs, with the relative difference of our count if it is large."""
    difference = cost.macs / 1e9 / gmacs - 1
    rounding = 0.05 / gmacs if gmacs < 100 else 0  # small figures have one digit after the point
    return f'{gmacs}' if abs(difference) <= TOLERANCE + rounding else f'{gmacs} (ours is {difference:+.1%})'


def _image_size(path: Path, scope: str) -> tuple[int, int]:
    if path.parent.name == 'demo':
        return DEMO
    if scope == 'mmpretrain':
        side = SIDES.get(
            path.stem.rpartition('_')[2], 64 if '_nano' in path.stem or 'resnet18' in path.stem else 224
        )
        return side, side
    return SEGMENTATION if scope == 'mmseg' else DETECTION


def _section(path: Path) -> str:
    if path.parent.name == 'demo':
        return _SECTIONS['demo']
    return next(title for prefix, title in _SECTIONS.items() if path.stem.startswith(prefix))


def _read_trained() -> dict[str, str]:
    """Read the results of the demos, config -> text."""
    if not TRAINED.is_file():
        return {}
    try:
        records: Iterable[dict] = json.loads(TRAINED.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f'{TRAINED} is broken ({error}): write it with demo_page.py --record') from error
    return {
        r['config']: f'{r["result"]} ([log]({r["log"]}), seed {r["seed"]}, commit {r["commit"]})'
        for r in records
    }


def _preamble(configs: Sequence[str] | None, page: str | Path | None) -> str:
    import mmdet
    import mmpretrain
    import mmseg
    import timm

    command = 'python docs/generate/model_table.py'
    command += f' --config {" ".join(map(str, configs))}' if configs else ''
    command += f' --markdown {page}' if page else ''
    modules = ', '.join(f'{m.__name__} {m.__version__}' for m in (torch, mmdet, mmseg, mmpretrain, timm))
    machine = f'{platform.machine()}, {os.cpu_count()} cores'
    written = f'Written by `{command}` (Python {sys.version.split()[0]}, {modules}; {machine}).'
    table = (Path(__file__).parent / 'templates' / 'configs.md').read_text()
    return f'# Models\n\n{written}\n\n{_EXPLANATION}\n\n{table.strip()}\n'


def main() -> None:
    """Parse the command line and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--config', nargs='+', metavar='FILE', help='configs to count (default: all of configs/)'
    )
    parser.add_argument('--markdown', metavar='FILE', help='also write the page to this file')
    args = parse_strictly(parser)
    write_table(args.config, args.markdown)


if __name__ == '__main__':
    run_cli(main)
