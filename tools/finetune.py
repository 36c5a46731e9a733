#!/usr/bin/env python
"""Train a detector or segmenter on your own data: looks through it, decides the rest from it and from this machine, trains, keeps the best.

Objects: python tools/finetune.py --train train.json --val val.json --images images/ --model cascade
Label maps: python tools/finetune.py --train labels/train --val labels/val --images images/train images/val --classes sky road --model fpn
No GPU: add --arch nano --preset quick. What it decided, as one config to edit: WORK_DIR/finetune.py, which tools/train.py takes.
"""

import argparse

from fastervit_backbone.utils.console import add_trust_argument, parse_size, parse_strictly, run_cli


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--train', required=True, help='COCO json, or folder of label maps')
    parser.add_argument('--val', required=True, help='likewise')
    parser.add_argument(
        '--images',
        required=True,
        nargs='+',
        metavar='DIR',
        help='folder of the images, or two: of train and of val',
    )
    parser.add_argument(
        '--model', help='cascade, mask-rcnn, dino; with label maps upernet, fpn (default cascade)'
    )
    parser.add_argument('--arch', help='FasterViT 0..4, or nano, for a CPU (default 0)')
    parser.add_argument('--preset', help='how long: quick, standard, long (default standard)')
    parser.add_argument(
        '--classes', nargs='+', metavar='NAME', help='of label maps: names of the values 0, 1, ...'
    )
    parser.add_argument(
        '--ignore', type=int, metavar='VALUE', help='of label maps: "no class" too, beside 255'
    )
    parser.add_argument(
        '--work-dir', help='for config, checkpoints and logs (default: work_dirs/finetune/MODEL_ARCH)'
    )
    parser.add_argument(
        '--start',
        metavar='WEIGHTS',
        help='published, nothing, or a file or work dir, of other classes too (published)',
    )
    parser.add_argument(
        '--size',
        type=parse_size,
        metavar='HxW',
        help="of images, or of crops of label maps (default: the data's)",
    )
    parser.add_argument('--batch', type=int, help='images of a step (default: what the memory found holds)')
    parser.add_argument('--epochs', type=int, help="default: the preset's")
    parser.add_argument('--lr', type=float, help="at that batch (default: the paper's, scaled)")
    parser.add_argument('--seed', type=int, help='of everything random (0)')
    parser.add_argument('--no-amp', dest='amp', action='store_false', help='float32 on a GPU too')
    parser.add_argument('--resume', action='store_true', help='go on with the run in the work dir')
    parser.add_argument(
        '--config-only',
        action='store_true',
        help='write the config and stop: for several GPUs, or to edit it first',
    )
    parser.add_argument('--dry-run', action='store_true', help='say what would be done')
    add_trust_argument(parser)
    args = vars(parse_strictly(parser))

    from fastervit_backbone.checkpoints.io import trusting_pickles  # after parsing: --help answers at once
    from fastervit_backbone.finetune import finetune

    with trusting_pickles(args.pop('trust_pickle')):
        finetune(**args)


if __name__ == '__main__':
    run_cli(main)
