"""Train a detector or segmenter from a config.

Example:      fastervit train configs/cascade_fastervit0_3x.py --amp
Resume:       fastervit train configs/cascade_fastervit0_3x.py --amp --resume
Several GPUs: torchrun --nproc-per-node 8 -m fastervit_backbone train CONFIG --launcher pytorch

The learning rate is scaled to the batch size. SIGTERM and Ctrl-C save a checkpoint before the run stops.
"""

import argparse

from ..options import add_run_arguments, parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and train."""
    parser = verb_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', metavar='DIR', help='folder of checkpoints and logs (default: work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision on a GPU: bfloat16 if supported, else float16',
    )
    parser.add_argument(
        '--compile', action='store_true', help='torch.compile the backbone (needs a C++ compiler)'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        default=False,
        metavar='CHECKPOINT',
        help='resume from the last checkpoint of the work dir, or from CHECKPOINT',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument(
        '--auto-scale-lr',
        action=argparse.BooleanOptionalAction,
        default=True,
        help="scale the config's learning rate to the batch size (on by default)",
    )
    parser.add_argument(
        '--max-unreadable',
        type=int,
        default=10,
        metavar='N',
        help='replace unreadable images with others; stop when more than N are unreadable (default: 10)',
    )
    parser.add_argument(
        '--max-non-finite',
        type=int,
        default=5,
        metavar='N',
        help='skip steps with a non-finite loss or gradient, and stop after N consecutive ones (default: 5)',
    )
    add_run_arguments(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.train import train  # after parsing: --help stays fast
    from fastervit_backbone.utils.trust import trusting_pickles
    from fastervit_backbone.utils.verbosity import verbosely

    with trusting_pickles(args.trust_pickle), verbosely(args.verbose):
        train(
            args.config,
            work_dir=args.work_dir,
            amp=args.amp,
            compile=args.compile,
            resume=args.resume,
            seed=args.seed,
            auto_scale_lr=args.auto_scale_lr,
            max_unreadable=args.max_unreadable,
            max_non_finite=args.max_non_finite,
            options=args.cfg_options,
            launcher=args.launcher,
        )
