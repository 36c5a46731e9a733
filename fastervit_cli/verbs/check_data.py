"""Check a data set before training on it: report every problem in one pass.

One place:  fastervit check-data train.json            fastervit check-data DATA_FOLDER
Objects:    fastervit check-data --train train.json --val val.json --images images/
Classes:    fastervit check-data --train train --val val   (one folder of images per class)
Label maps: fastervit check-data --train labels/train --val labels/val \\
                --images images/train images/val --classes sky road tree
Exit code: 0 without errors (warnings allowed), 1 with errors, 2 if the data could not be checked.
"""

import argparse
import sys

from ..options import parse_strictly, verb_parser


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser(__doc__)
    parser.add_argument(
        'data',
        nargs='?',
        help='COCO json, or folder with COCO jsons, with images/ and labels/, in VOC format, or with one '
        'folder of images per class; '
        'splits and images are found there',
    )
    parser.add_argument('--train', help='COCO json, folder of label maps, or folder of class folders')
    parser.add_argument('--val', help='likewise')
    parser.add_argument('--test', help='likewise')
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='DIR',
        help='image folder: one for all splits, or one per split',
    )
    parser.add_argument(
        '--classes', nargs='+', metavar='NAME', help='label maps: names of the values 0, 1, ...'
    )
    parser.add_argument(
        '--reduce-zero-label', action='store_true', help='label maps: 0 is ignored and 1 is the first class'
    )
    parser.add_argument(
        '--ignore',
        type=int,
        nargs='+',
        default=[],
        metavar='VALUE',
        help='label maps: further ignored values, besides 255',
    )
    parser.add_argument(
        '--no-read',
        dest='read',
        action='store_false',
        help='do not open the images (only those of label maps)',
    )
    parser.add_argument(
        '--fix', metavar='OUT', help='COCO: write repaired copies and a log of all changes to OUT/'
    )
    parser.add_argument('--json', metavar='FILE', help='also write the findings as JSON')
    parser.add_argument(
        '--sheet', metavar='FILE', help='draw images of every split with their annotations on one picture'
    )
    return parser


def main() -> None:
    """Parse the command line and check."""
    args = parse_strictly(_parser())

    # after parsing: --help answers at once
    from fastervit_backbone.check_data import check_data
    from fastervit_backbone.utils.printable import printable

    splits = {name: value for name in ('train', 'val', 'test') if (value := getattr(args, name))}
    lines, errors = check_data(
        splits,
        args.images,
        data=args.data,
        classes=args.classes,
        reduce_zero_label=args.reduce_zero_label,
        ignored=tuple(args.ignore),
        read_images=args.read,
        fix=args.fix,
        record=args.json,
        sheet=args.sheet,
    )
    print(printable('\n'.join(lines)), flush=True)
    sys.exit(1 if errors else 0)
