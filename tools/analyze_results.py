#!/usr/bin/env python
"""Predictions against ground truth: figures of every class, confusion, precision and recall, the worst mistakes as pictures.

Example: python tools/analyze_results.py predictions work_dirs/demo/data/annotations/instances_val.json --out analysis
Label maps: python tools/analyze_results.py predictions work_dirs/demo/data/labels/val --out analysis
"""

import argparse

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'predictions', help='--out of tools/predict.py, or its json, or a json list of COCO results'
    )
    parser.add_argument('truth', help='COCO json, or a folder of label maps')
    parser.add_argument(
        '--out',
        required=True,
        help='folder for report.html, figures.json, classes.csv, confusion.csv and pictures',
    )
    parser.add_argument('--images', help='folder of the images, for pictures of mistakes')
    parser.add_argument(
        '--metric', choices=['bbox', 'segm'], default='bbox', help='what objects are matched by (bbox)'
    )
    parser.add_argument(
        '--threshold',
        type=float,
        default=0.3,
        help='score from which an object counts in the confusion matrix (0.3)',
    )
    parser.add_argument('--worst', type=int, default=24, help='pictures of each sort of mistake (24)')
    parser.add_argument(
        '--ignore',
        type=int,
        nargs='+',
        default=[],
        metavar='VALUE',
        help='true labels that count nowhere, beside 255',
    )
    args = parse_strictly(parser)

    from fastervit_backbone.evaluation.analyze import analyze  # after parsing: --help answers at once

    options = dict(
        images=args.images,
        metric=args.metric,
        threshold=args.threshold,
        worst=args.worst,
        ignored=tuple(args.ignore),
    )
    print('\n'.join(analyze(args.predictions, args.truth, args.out, **options)))


if __name__ == '__main__':
    run_cli(main)
