"""Evaluate a checkpoint on the test data of its config.

Example:      fastervit test configs/cascade_fastervit0_3x.py work_dirs/cascade_fastervit0_3x
Pictures:     fastervit test CONFIG CHECKPOINT --show-dir work_dirs/pictures
ImageNet-R:   fastervit test imagenet_fastervit0_300e CHECKPOINT --data imagenet-r
Several GPUs: torchrun --nproc-per-node 8 -m fastervit_cli test CONFIG CHECKPOINT --launcher pytorch
"""

from ..options import add_run_arguments, freeze_imports, parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and evaluate."""
    parser = verb_parser(__doc__)
    parser.add_argument('config', help='config file, or a published folder')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file or URL, a work dir (its last checkpoint), or an exported file; none if CONFIG '
        'is no config',
    )
    parser.add_argument(
        '--data',
        metavar='DIR',
        help="classifiers: folder of class folders, instead of the config's test data; it may have only some "
        'of the classes (ImageNet-A, -R, V2)',
    )
    parser.add_argument('--out', metavar='FILE', help='write predictions (.pkl) or metrics (.json)')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='write pictures of ground truth and predictions to this folder'
    )
    parser.add_argument('--work-dir', metavar='DIR', help='folder of the log (default: work_dirs/CONFIG)')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: average over scales and flips of the config',
    )
    parser.add_argument(
        '--deploy', action='store_true', help='deploy mode: a faster backbone, same metrics up to rounding'
    )
    add_run_arguments(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.evaluate import evaluate  # after parsing: --help stays fast
    from fastervit_backbone.utils.trust import trusting_pickles
    from fastervit_backbone.utils.verbosity import verbosely

    freeze_imports()
    with trusting_pickles(args.trust_pickle), verbosely(args.verbose):
        evaluate(
            args.config,
            args.checkpoint,
            work_dir=args.work_dir,
            show_dir=args.show_dir,
            out=args.out,
            data=args.data,
            tta=args.tta,
            deploy=args.deploy,
            options=args.cfg_options,
            launcher=args.launcher,
        )
