#!/usr/bin/env python
"""Train a detector or segmenter from a config.

Example: python tools/train.py configs/cascade_fastervit0_3x.py --amp
Several GPUs: torchrun --nproc-per-node 8 tools/train.py CONFIG --launcher pytorch
"""

import argparse

from fastervit_backbone.utils.console import add_run_arguments, parse_strictly, run_cli


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='for checkpoints and logs (default: work_dirs/CONFIG)')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision (CUDA): bfloat16 where the device has it, else float16',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        default=False,
        help='go on from the last checkpoint of the work dir (auto), or from this file',
    )
    parser.add_argument('--seed', type=int, help='of everything random')
    parser.add_argument(
        '--auto-scale-lr',
        action=argparse.BooleanOptionalAction,
        default=True,
        help="scale the config's learning rate to the batch (the default), or keep it",
    )
    parser.add_argument(
        '--max-unreadable',
        type=int,
        default=10,
        help='images that cannot be read and are passed over (default 10)',
    )
    parser.add_argument(
        '--max-non-finite',
        type=int,
        default=5,
        help='steps in a row without a finite loss that are passed over, then stop (default 5)',
    )
    add_run_arguments(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.apis.train import train
    from fastervit_backbone.checkpoints.io import trusting_pickles  # after parsing: --help answers at once

    with trusting_pickles(args.trust_pickle):
        train(
            args.config,
            work_dir=args.work_dir,
            amp=args.amp,
            resume=args.resume,
            seed=args.seed,
            auto_scale_lr=args.auto_scale_lr,
            max_unreadable=args.max_unreadable,
            max_non_finite=args.max_non_finite,
            options=args.cfg_options,
            launcher=args.launcher,
        )


if __name__ == '__main__':
    run_cli(main)
