"""Generate a small data set, train Cascade Mask R-CNN or other heads on it, evaluate them and draw.

Example: fastervit demo --out work_dirs/demo        (minutes on a CPU; nothing is downloaded)
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from ..options import parse_strictly, verb_parser
from ..package import utils

HEADS = ['cascade', 'dino', 'mask2former', 'rtmdet-ins', 'upernet', 'fpn']
HEADS += ['mask2former-semantic', 'mask2former-panoptic']


def main() -> None:
    """Parse the command line and run the steps."""
    parser = verb_parser(__doc__)
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

    configs = utils('places').configs_folder()
    data = Path(args.out) / 'data'
    steps: list[tuple] = [('make-shapes', data, '--train', args.images)]
    for head in args.heads:
        run, config = Path(args.out) / head, configs / 'demo' / f'{head}_shapes.py'
        steps.append(('train', config, '--work-dir', run, '--seed', args.seed))
        outputs = ('--show-dir', run / 'pictures', '--out', run / 'metrics.json')
        steps.append(('test', config, run, *outputs))
    environment = os.environ | dict(SHAPES_ROOT=str(data.absolute()))
    for verb, *arguments in steps:
        command = [sys.executable, '-m', 'fastervit_cli', verb, *map(str, arguments)]
        code = _run(command, environment)
        if code:
            sys.exit(code)
    model = f'{configs / "demo" / args.heads[-1]}_shapes.py {Path(args.out) / args.heads[-1]}'
    if shutil.which('fastervit') is None:
        print('first: source .venv/bin/activate')
    print(f'predict: fastervit predict {model} IMAGES --out predictions')
    print('your own data: fastervit finetune DATA')


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a step and return its exit code; SIGTERM reaches it, so that a training saves a checkpoint."""
    step = subprocess.Popen(command, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: step.terminate())
    code = step.wait()
    return 128 - code if code < 0 else code
