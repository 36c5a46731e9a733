#!/usr/bin/env python
"""Generate a small data set, train Cascade Mask R-CNN or other heads on it, evaluate them and draw.

Example: python tools/demo.py --out work_dirs/demo        (minutes on a CPU; nothing is downloaded)
"""

import os
import subprocess
import sys
from pathlib import Path

from fastervit_cli import data_folder
from fastervit_cli.console import as_typed, parse_strictly, run_cli, tool_parser

HEADS = ['cascade', 'dino', 'mask2former', 'rtmdet-ins', 'upernet', 'fpn']
HEADS += ['mask2former-semantic', 'mask2former-panoptic']


def main() -> None:
    """Parse the command line and run the steps."""
    parser = tool_parser(__doc__)
    parser.add_argument('--out', default='work_dirs/demo', metavar='DIR', help='default: work_dirs/demo')
    parser.add_argument('--seed', default='0', help='random seed (default: 0)')
    parser.add_argument(
        '--heads',
        nargs='+',
        default=['cascade'],
        choices=HEADS,
        metavar='HEAD',
        help=f'one after the other, of {", ".join(HEADS)} (default: cascade)',
    )
    parser.add_argument('--images', type=int, default=700, metavar='N', help='training images (default: 700)')
    args = parse_strictly(parser)

    data = Path(args.out) / 'data'
    steps: list[tuple] = [('make_shapes', data, '--train', args.images)]
    for head in args.heads:
        run, config = Path(args.out) / head, data_folder('configs') / 'demo' / f'{head}_shapes.py'
        steps.append(('train', config, '--work-dir', run, '--seed', args.seed))
        outputs = ('--show-dir', run / 'pictures', '--out', run / 'metrics.json')
        steps.append(('test', config, run, *outputs))
    environment = os.environ | dict(SHAPES_ROOT=str(data.absolute()))
    for tool, *arguments in steps:
        command = [sys.executable, str(data_folder('tools') / f'{tool}.py'), *map(str, arguments)]
        code = subprocess.run(command, env=environment).returncode
        if code:
            sys.exit(code)
    model = f'{data_folder("configs") / "demo" / args.heads[-1]}_shapes.py {Path(args.out) / args.heads[-1]}'
    print(as_typed(f'predict: python tools/predict.py {model} IMAGES --out predictions'))
    print(as_typed('your own data: python tools/finetune.py DATA'))


if __name__ == '__main__':
    run_cli(main)
