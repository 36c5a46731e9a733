"""Parameters and FLOPs of every config beside the paper's figures and what was trained here, as a markdown page.

Example: python docs/generate/model_table.py --config configs/upernet_fastervit2_160k.py
All of docs/models.md (half an hour on two cores): python docs/generate/model_table.py --markdown docs/models.md
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from fastervit_backbone.benchmark.candidates import build_config_model
from fastervit_backbone.benchmark.complexity import Complexity, measure
from fastervit_backbone.benchmark.paper import PRINTED, Printed
from fastervit_backbone.engine.config.adapt import check_channels
from fastervit_backbone.engine.config.load import load_config
from fastervit_backbone.utils.console import parse_strictly, run_cli
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import check_file_writable, replacing

ROOT = Path(__file__).resolve().parent.parent.parent
#: What `make demo-all` measured, written by docs/generate/demo_page.py --record.
TRAINED = ROOT / 'docs' / 'trained.json'
#: (height, width) that the papers count at.
DETECTION, SEGMENTATION = (800, 1280), (512, 2048)
#: Ours and the paper's multiply-adds may differ by this much before the row says so: papers print whole thousands of millions.
SAME = 0.01
_SECTIONS = {
    'cascade': 'Cascade Mask R-CNN, COCO',
    'dino': 'DINO, COCO',
    'mask-rcnn': 'Other detectors',
    'retinanet': 'Other detectors',
    'faster-rcnn': 'Other detectors',
    'upernet': 'UPerNet, ADE20K',
    'fpn': 'Semantic FPN, ADE20K',
    'demo': 'Demos, the generated shapes',
    '': 'Other configs',
}
_HEADER = (
    '| config | params, M (backbone) | GFLOPs (backbone) | GMACs | paper: accuracy | paper: img/s | paper: GMACs | trained here |\n'
    '|---|---|---|---|---|---|---|---|'
)


def write_table(configs: Sequence[str] | None = None, page: str | Path | None = None) -> str:
    """Count configs, print a row as each is done, and write the page.

    Args:
        configs: paths; None for every leaf under configs/.
        page: markdown file to write; None writes none.

    Returns:
        the page.

    Raises:
        UserError: no such config.
    """
    paths = [Path(c) for c in configs] if configs else leaf_configs()
    for path in paths:
        check_channels(load_config(path))  # what is wrong is said now, not when the others are counted
    if page is not None:
        check_file_writable('--markdown', page)
    preamble = _preamble(configs, page)
    print(_HEADER, flush=True)
    rows: dict[str, list[str]] = {}
    for path in paths:
        row = _row(path)
        print(row, flush=True)
        rows.setdefault(_section(path), []).append(row)
    text = preamble + ''.join(
        f'\n## {title}\n\n{_HEADER}\n' + '\n'.join(rows[title]) + '\n'
        for title in dict.fromkeys(_SECTIONS.values())
        if title in rows
    )
    if page is not None:
        with replacing(Path(page)) as temporary:
            temporary.write_text(text)
    return text


def leaf_configs() -> list[Path]:
    """Every config that a run can be given: all under configs/ but the bases."""
    return sorted(
        (p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts),
        key=lambda p: (p.parent != ROOT / 'configs', p),
    )


def _row(path: Path) -> str:
    model, scope = build_config_model(path)
    cost = measure(model, _size(path, scope))
    printed, trained = PRINTED.get(path.stem), _trained().get(path.stem)
    columns = [
        f'`{path.name}`' if path.parent.name in ('configs', 'demo') else f'`{path.parent.name}/{path.name}`',
        f'{cost.parameters / 1e6:.1f} ({cost.backbone_parameters / 1e6:.1f})',
        f'{_giga(cost.flops)} ({_giga(cost.backbone_flops)})',
        _giga(cost.macs),
        _accuracy(printed),
        str(printed.throughput) if printed and printed.throughput else '',
        _compared(cost, printed.gmacs) if printed and printed.gmacs else '',
        trained or 'not trained here',
    ]
    return '| ' + ' | '.join(columns) + ' |'


def _giga(count: int) -> str:
    return f'{count / 1e9:.0f}' if count >= 1e10 else f'{count / 1e9:.2f}'


def _accuracy(printed: Printed | None) -> str:
    if printed is None:
        return ''
    return printed.accuracy + (f' (table {printed.table})' if printed.table else '')


def _compared(cost: Complexity, gmacs: int) -> str:
    ratio = cost.macs / 1e9 / gmacs
    return f'{gmacs}' if abs(ratio - 1) <= SAME else f'{gmacs} (ours is {ratio - 1:+.1%})'


def _size(path: Path, scope: str) -> tuple[int, int]:
    if path.parent.name == 'demo':
        return 128, 160
    return SEGMENTATION if scope == 'mmseg' else DETECTION


def _section(path: Path) -> str:
    if path.parent.name == 'demo':
        return _SECTIONS['demo']
    return next(title for prefix, title in _SECTIONS.items() if path.stem.startswith(prefix))


def _trained() -> dict[str, str]:
    if not TRAINED.is_file():
        return {}
    try:
        records: Iterable[dict] = json.loads(TRAINED.read_text())
    except json.JSONDecodeError as error:
        raise UserError(
            f'{TRAINED} is broken ({error}): write it again with make demo-all and docs/generate/demo_page.py --record'
        ) from error
    return {
        r['config']: f'{r["result"]} ([log]({r["log"]}), seed {r["seed"]}, commit {r["commit"]})'
        for r in records
    }


def _preamble(configs: Sequence[str] | None, page: str | Path | None) -> str:
    import mmdet
    import mmseg
    import timm

    command = 'python docs/generate/model_table.py' + (
        f' --config {" ".join(map(str, configs))}' if configs else ''
    )
    command += f' --markdown {page}' if page else ''
    return f"""# Models

Written by `{command}` (Python {sys.version.split()[0]}, torch {torch.__version__}, mmdet {mmdet.__version__}, mmseg {mmseg.__version__}, \
timm {timm.__version__}; {platform.machine()}, {os.cpu_count()} cores).

- **Counted** with torch's FLOP counter in one forward of the whole model in eval mode, batch 1, at 1280x800 (detection), 2048x512
  (segmentation) and 160x128 (demos): matrix products, convolutions and attention. A multiply-add is two FLOPs and one MAC. FasterViT's
  position MLPs are cached in eval and not counted, tokens that pad its last windows are; norms, activations, sampling (RoIAlign,
  deformable attention) and NMS are not. Two-stage detectors are counted with 1000 regions for the box heads and 100 for the mask
  heads. Parameters include auxiliary heads.
- **paper** columns are what arXiv 2306.06189 prints: its accuracy, its images a second (on its A100, not measured here) and its "FLOPs",
  which are multiply-adds. Where ours differ by more than 1%, the row says by how much. Empty: the paper has no such row, or its figure
  is not entered here. They have not been checked against the PDF again: do that before citing one. That our counts of the peers agree
  with them within 0.2% speaks for both; those of FasterViT do not agree, and we do not know what the paper left out.
- **trained here**: result, log, seed and commit. "not trained here" means that nobody has run this recipe in this repository yet.
"""


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
