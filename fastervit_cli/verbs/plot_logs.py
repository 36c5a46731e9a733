"""Plot training curves: loss, learning rate and metrics of one or more runs.

Example: fastervit plot-logs work_dirs/demo/cascade work_dirs/demo/dino --out curves.png
"""

from ..options import parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and plot."""
    parser = verb_parser(__doc__)
    parser.add_argument('logs', nargs='+', metavar='LOG', help='work dir, a run in it, or a scalars.json')
    parser.add_argument('--out', required=True, metavar='FILE', help='output picture, .png, .svg or .pdf')
    parser.add_argument(
        '--keys',
        nargs='+',
        default=[],
        metavar='KEY',
        help='what to plot, by its name in the log (default: loss, lr and the main metrics)',
    )
    parser.add_argument(
        '--smooth',
        type=int,
        default=1,
        metavar='POINTS',
        help='moving average over so many points (default: 1)',
    )
    parser.add_argument(
        '--names', nargs='+', metavar='NAME', help='names of the runs in the legend (default: their folders)'
    )
    args = parse_strictly(parser)

    from dataclasses import replace

    from fastervit_backbone.evaluation.curves import plot_logs, read_log  # after parsing: --help stays fast
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.files import check_file_writable

    check_file_writable('--out', args.out)
    logs = [read_log(path) for path in args.logs]
    if args.names:
        if len(args.names) != len(logs):
            raise UserError(f'--names: {len(args.names)} names for {len(logs)} logs')
        logs = [replace(log, name=name) for log, name in zip(logs, args.names, strict=True)]
    keys = plot_logs(logs, args.out, args.keys, args.smooth)
    print(f'{", ".join(keys)} of {len(logs)} run{"s" * (len(logs) > 1)}: {args.out}')
