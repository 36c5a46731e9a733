#!/usr/bin/env python
"""Run everything that only a GPU can show, in steps of less than ten minutes.

Each step writes a page, docs/benchmarks/gpu_STEP.md.

All steps:  python tools/gpu.py                      (or: make gpu)
Some:       python tools/gpu.py tests peers
Without GPU: python tools/gpu.py --twin --out work_dirs/gpu   (the same steps on the CPU, small images)

The published code is compared where its package is installed (pip install fastervit, non-commercial license).
On a machine without a package registry: python tools/gather_wheels.py, on another one, first.
"""

from fastervit_cli.console import run_cli
from fastervit_cli.options import parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and run the steps."""
    parser = verb_parser(__doc__)
    parser.add_argument('steps', nargs='*', metavar='STEP', help='steps to run (default: all)')
    parser.add_argument('--twin', action='store_true', help='on the CPU with small images')
    parser.add_argument(
        '--out', default='docs/benchmarks', metavar='FOLDER', help='of the pages (default: docs/benchmarks)'
    )
    args = parse_strictly(parser)

    from fastervit_paper.gpu_steps import run_steps  # after parsing: --help stays fast

    run_steps(args.steps, args.out, args.twin)


if __name__ == '__main__':
    run_cli(main)
