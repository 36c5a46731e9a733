"""Compare predictions with ground truth: metrics by class, confusion matrix, curves, and the worst mistakes.

Objects:    fastervit analyze-results predictions truth.json --images photos/ --out analysis
Label maps: fastervit analyze-results predictions labels/val --out analysis
Classes:    fastervit analyze-results predictions images/val --out analysis

Then open analysis/report.html. PREDICTIONS is what fastervit predict wrote; AP needs its --threshold 0.
"""

from ..options import parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and compare."""
    parser = verb_parser(__doc__)
    parser.add_argument(
        'predictions', help='--out folder of fastervit predict, its json, or a json list of COCO results'
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
    print('\n'.join(lines))
