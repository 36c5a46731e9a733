#!/usr/bin/env python
"""Write one page, index.html, about the runs of `make demo-all`: results, curves, pictures.

Example: python tools/demo_page.py work_dirs/demo --record docs/trained.json
"""

import argparse

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', help='folder with the runs in cascade/, dino/, upernet/ and fpn/')
    parser.add_argument(
        '--record',
        metavar='FILE',
        help='also write results for the table of models here, with the logs beside',
    )
    args = parse_strictly(parser)

    from fastervit_backbone.benchmark.demo_page import write_page  # after parsing: --help answers at once

    print(f'written: {write_page(args.root, args.record)}')


if __name__ == '__main__':
    run_cli(main)
