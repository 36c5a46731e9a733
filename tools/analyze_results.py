#!/usr/bin/env python
"""Compare predictions with ground truth: metrics by class, confusion matrix, curves, and the worst mistakes.

Objects:    python tools/analyze_results.py predictions truth.json --images photos/ --out analysis
Label maps: python tools/analyze_results.py predictions labels/val --out analysis
Classes:    python tools/analyze_results.py predictions images/val --out analysis

Then open analysis/report.html. PREDICTIONS is what tools/predict.py wrote; AP needs its --threshold 0.
"""

from fastervit_cli.console import as_typed, parse_strictly, run_cli, tool_parser


def main() -> None:
    """Parse the command line and compare."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'predictions', help='--out folder of tools/predict.py, its json, or a json list of COCO results'
    )
    parser.add_argument('truth', help='COCO json, folder of label maps, or of class folders')
    parser.add_argument(
        '--out',
        required=True,
        help='folder for report.html, figures.json, classes.csv, confusion.csv and pictures',
    )
    parser.add_argument('--images', metavar='DIR', help='image folder, to draw pictures of the mistakes')
    parser.add_argument(
        '--metric',
        choices=['bbox', 'segm'],
        default='bbox',
        help='match objects by boxes or masks (default: bbox)',
    )
    parser.add_argument(
        '--threshold',
        type=float,
        default=0.3,
        help='lowest score of the objects in the confusion matrix (default: 0.3)',
    )
    parser.add_argument(
        '--worst', type=int, default=24, help='number of pictures of each kind of mistake (default: 24)'
    )
    parser.add_argument(
        '--ignore',
        type=int,
        nargs='+',
        default=[],
        metavar='VALUE',
        help='label maps: further ignored values, besides 255',
    )
    args = parse_strictly(parser)

    from fastervit_backbone.evaluation.analyze import analyze  # after parsing: --help stays fast

    lines = analyze(
        args.predictions,
        args.truth,
        args.out,
        images=args.images,
        metric=args.metric,
        threshold=args.threshold,
        worst=args.worst,
        ignored=tuple(args.ignore),
    )
    print(as_typed('\n'.join(lines)))


if __name__ == '__main__':
    run_cli(main)
