#!/usr/bin/env python
"""Curves of training: loss, learning rate and metrics of one or several runs.

Example: python tools/plot_logs.py work_dirs/demo/cascade work_dirs/demo/dino --out curves.png
"""

import argparse

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('logs', nargs='+', metavar='LOG', help='work dir, a run in it, or a scalars.json')
    parser.add_argument('--out', required=True, help='picture: .png, .svg or .pdf')
    parser.add_argument(
        '--keys',
        nargs='+',
        default=[],
        help='what to draw, by the names in the log (loss, lr and the main metrics)',
    )
    parser.add_argument(
        '--smooth', type=int, default=1, metavar='POINTS', help='draw the mean over so many points (1)'
    )
    parser.add_argument('--names', nargs='+', help='of the runs, for the legend (default: their folders)')
    args = parse_strictly(parser)

    from dataclasses import replace

    from fastervit_backbone.evaluation.curves import (
        plot_logs,
        read_log,
    )  # after parsing: --help answers at once
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.files import check_file_writable

    check_file_writable('--out', args.out)
    logs = [read_log(path) for path in args.logs]
    if args.names and len(args.names) != len(logs):
        raise UserError(f'--names: {len(args.names)} for {len(logs)} logs')
    logs = (
        [replace(log, name=name) for log, name in zip(logs, args.names, strict=True)] if args.names else logs
    )
    drawn = plot_logs(logs, args.out, args.keys, args.smooth)
    print(f'{", ".join(drawn)} of {len(logs)} run{"s" * (len(logs) > 1)}: {args.out}')


if __name__ == '__main__':
    run_cli(main)
