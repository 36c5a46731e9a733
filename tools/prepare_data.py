#!/usr/bin/env python
"""Put COCO, ADE20K or VOC where the configs look for it, from archives or folders you have or from the network, and check it.

Examples: python tools/prepare_data.py coco ~/Downloads          (archives or folders in there)
          python tools/prepare_data.py ade20k --download
          python tools/prepare_data.py voc --root /data/VOCdevkit   (only checks, if it is complete)
"""

import argparse

from fastervit_backbone.utils.console import parse_strictly, run_cli


def main() -> None:
    """Parse and prepare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', choices=['coco', 'ade20k', 'voc'], help='which data set')
    parser.add_argument(
        'source',
        nargs='*',
        help='archives, or folders with archives or with the data set (linked, not copied)',
    )
    parser.add_argument(
        '--root',
        help='where to (default: COCO_ROOT, ADE_ROOT or VOC_ROOT, else the place under data/ that configs use)',
    )
    parser.add_argument('--download', action='store_true', help='fetch what is missing')
    args = parse_strictly(parser)

    from fastervit_backbone.datasets.prepare import (
        DATA_SETS,
        prepare,
    )  # after parsing: --help answers at once

    root = prepare(DATA_SETS[args.data], args.source, root=args.root, download=args.download)
    print(f'{args.data} is complete and readable in {root}')


if __name__ == '__main__':
    run_cli(main)
