#!/usr/bin/env python
"""Write the demo's shapes data set: COCO annotations and label maps.

Example: python tools/make_shapes.py work_dirs/demo/data
"""

import argparse

from fastervit_backbone.datasets.shapes import make_shapes
from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and generate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', help='folder to make')
    parser.add_argument('--train', type=int, default=700, help='training images (default 700)')
    parser.add_argument('--val', type=int, default=50, help='validation images (default 50)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(128, 160),
        metavar=('HEIGHT', 'WIDTH'),
        help='pixels (default 128 160)',
    )
    parser.add_argument('--seed', type=int, default=0, help='same seed, same pixels (default 0)')
    args = parse_strictly(parser)
    root = make_shapes(args.root, args.train, args.val, tuple(args.size), args.seed)
    print(f'shapes: {args.train} training and {args.val} validation images in {root}')


if __name__ == '__main__':
    run_cli(main)
