#!/usr/bin/env python
"""Parameters and FLOPs of every config, beside the paper's figures and what has been trained here, as a markdown table.

Example: python tools/model_table.py --config configs/upernet_fastervit2_160k.py configs/baselines/upernet_swin-t_160k.py
All of docs/models.md (half an hour on two cores): python tools/model_table.py --markdown docs/models.md
"""

import argparse

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--config', nargs='+', metavar='FILE', help='configs to count (default: all of configs/)'
    )
    parser.add_argument('--markdown', metavar='FILE', help='write the page here as well')
    args = parse_strictly(parser)

    from fastervit_backbone.benchmark.model_table import write_table  # after parsing: --help answers at once

    write_table(args.config, args.markdown)


if __name__ == '__main__':
    run_cli(main)
