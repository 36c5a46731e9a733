"""Generate the demo's shapes data set, with COCO annotations and label maps.

Example: fastervit make-shapes work_dirs/demo/data
"""

from ..options import parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and generate."""
    parser = verb_parser(__doc__)
    parser.add_argument('root', help='output folder')
    parser.add_argument('--train', type=int, default=700, help='number of training images (default: 700)')
    parser.add_argument('--val', type=int, default=50, help='number of validation images (default: 50)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(128, 160),
        metavar=('HEIGHT', 'WIDTH'),
        help='image size in pixels (default: 128 160)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='random seed; a seed always gives the same pixels (default: 0)'
    )
    args = parse_strictly(parser)

    from fastervit_backbone.datasets.shapes import make_shapes  # after parsing: --help answers at once

    root = make_shapes(args.root, args.train, args.val, tuple(args.size), args.seed)
    print(f'shapes: {args.train} training and {args.val} validation images in {root}')
