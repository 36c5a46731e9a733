#!/usr/bin/env python
"""Evaluate a checkpoint on its config's test data, with pictures if wanted.

Example: python tools/test.py configs/cascade_fastervit0_3x.py work_dirs/cascade_fastervit0_3x --show-dir work_dirs/pictures
"""

import argparse

from fastervit_backbone.utils.console import add_run_arguments, parse_strictly, run_cli


def main() -> None:
    """Parse and evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights, or a work dir: its last checkpoint')
    parser.add_argument('--work-dir', help='for the log (default: work_dirs/CONFIG)')
    parser.add_argument('--show-dir', help='write pictures of ground truth and predictions here')
    parser.add_argument(
        '--tta', action='store_true', help='average over scales and flips (where the config says which)'
    )
    parser.add_argument(
        '--deploy',
        action='store_true',
        help='run the backbone in deploy mode: faster, same figures within rounding',
    )
    parser.add_argument('--out', help='write predictions (.pkl) or metrics (.json) here')
    add_run_arguments(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.apis.evaluate import test
    from fastervit_backbone.checkpoints.io import trusting_pickles  # after parsing: --help answers at once

    with trusting_pickles(args.trust_pickle):
        test(
            args.config,
            args.checkpoint,
            work_dir=args.work_dir,
            show_dir=args.show_dir,
            out=args.out,
            tta=args.tta,
            deploy=args.deploy,
            options=args.cfg_options,
            launcher=args.launcher,
        )


if __name__ == '__main__':
    run_cli(main)
