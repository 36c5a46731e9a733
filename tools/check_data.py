#!/usr/bin/env python
"""Look through a data set before training on it: everything that is wrong, at once.

Objects: python tools/check_data.py --train train.json --val val.json --images images/
Label maps: python tools/check_data.py --train labels/train --val labels/val --images images/train images/val --classes sky road tree
Exit code: 1 with errors, 0 with warnings or nothing, 2 where it could not look.
"""

import argparse
import sys

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and look."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--train', help='COCO json, or folder of label maps')
    parser.add_argument('--val', help='likewise')
    parser.add_argument('--test', help='likewise')
    parser.add_argument(
        '--images',
        nargs='+',
        required=True,
        metavar='DIR',
        help='folder of the images: one for all, or one for each split',
    )
    parser.add_argument(
        '--classes', nargs='+', metavar='NAME', help='of label maps: names of the values 0, 1, ...'
    )
    parser.add_argument(
        '--reduce-zero-label',
        action='store_true',
        help='of label maps: 0 means "no class" and 1 is the first',
    )
    parser.add_argument(
        '--ignore',
        type=int,
        nargs='+',
        default=[],
        metavar='VALUE',
        help='of label maps: "no class" too, beside 255',
    )
    parser.add_argument(
        '--no-read', dest='read', action='store_false', help='of a COCO json: do not open the images'
    )
    parser.add_argument(
        '--fix',
        metavar='OUT',
        help='of a COCO json: write repaired copies and a log of every change into this folder',
    )
    parser.add_argument('--json', metavar='FILE', help='write the findings here, for programs')
    parser.add_argument(
        '--sheet', metavar='FILE', help='draw images of every split with their annotations onto one picture'
    )
    args = parse_strictly(parser)

    from fastervit_backbone.datasets.validation.check import (
        check_data,
    )  # after parsing: --help answers at once

    splits = {name: value for name in ('train', 'val', 'test') if (value := getattr(args, name))}
    options = dict(
        classes=args.classes,
        reduce_zero_label=args.reduce_zero_label,
        ignored=tuple(args.ignore),
        read_images=args.read,
    )
    lines, errors = check_data(
        splits, args.images, fix=args.fix, record=args.json, sheet=args.sheet, **options
    )
    print('\n'.join(lines), flush=True)
    sys.exit(1 if errors else 0)


if __name__ == '__main__':
    run_cli(main)
