#!/usr/bin/env python
"""Speed of models against each other, by turns in one process; the first is what the others are compared with.

Example: python tools/benchmark.py published:2 fastervit:2 fastervit:2:deploy --size 800x1280 8x224x224 --dtype fp32 bf16
Whole detectors: python tools/benchmark.py configs/cascade_fastervit2_3x.py configs/baselines/cascade_swin-t_3x.py --size 800x1280
Where the time goes: python tools/benchmark.py fastervit:2:deploy --stages
Loading and evaluation: python tools/benchmark.py --data configs/cascade_fastervit0_3x.py

Models: fastervit:ARCH[:deploy], published:ARCH (the pip package fastervit), timm:NAME, CONFIG.py[:deploy].
"""

import argparse

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('models', nargs='*', metavar='MODEL', help='see above')
    parser.add_argument(
        '--size',
        nargs='+',
        default=['800x1280'],
        metavar='[BATCHx]HEIGHTxWIDTH',
        help='224 is 224x224 (800x1280)',
    )
    parser.add_argument('--batch', type=int, default=1, help='images at once, where a size does not say (1)')
    parser.add_argument(
        '--dtype',
        nargs='+',
        default=['fp32'],
        choices=['fp32', 'tf32', 'bf16', 'fp16'],
        help='one table each (fp32)',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='default: cuda where there is one')
    parser.add_argument(
        '--channels-last', action='store_true', help='images and weights in channels-last memory'
    )
    parser.add_argument('--compile', action='store_true', help='through torch.compile')
    parser.add_argument('--train', action='store_true', help='forward and backward instead of inference')
    parser.add_argument('--rounds', type=int, default=15, help='turns of each model (15)')
    parser.add_argument('--threads', type=int, help='CPU threads (default: as torch has it)')
    parser.add_argument(
        '--stages',
        action='store_true',
        help='profile one FasterViT: time, FLOPs, memory of every stage, and by operation',
    )
    parser.add_argument(
        '--data',
        metavar='CONFIG',
        help="img/s of a config's loading and augmentation, and of COCO evaluation",
    )
    parser.add_argument(
        '--out',
        metavar='PATH',
        help='write PATH.md and pictures, and tables as PATH.json: docs/benchmarks/cpu',
    )
    args = parse_strictly(parser)

    from fastervit_backbone.benchmark import run as benchmark  # after parsing: --help answers at once

    benchmark.run(**vars(args))


if __name__ == '__main__':
    run_cli(main)
