"""Train a detector, segmenter or classifier on your own data with one command.

Anything:   fastervit finetune my_data   (COCO, Roboflow, YOLO, VOC, images/ and labels/, class folders)
Objects:    fastervit finetune --train train.json --val val.json --images images/ --model cascade
Label maps: fastervit finetune --train labels/train --val labels/val --images images/train images/val \\
                --classes sky road --model fpn
Classes:    fastervit finetune --train images/train --val images/val   (one folder per class)

It checks the data, chooses batch size, image size and schedule for data and machine, trains, and keeps the
best checkpoint. --dry-run prints these choices. They are written as one config, WORK_DIR/finetune.py, for
fastervit train. Without a GPU, add --arch nano --preset quick. On several GPUs:
torchrun --nproc-per-node 8 -m fastervit_backbone finetune my_data
"""

from ..options import (
    add_trust_argument,
    add_verbose,
    parse_size,
    parse_strictly,
    verb_parser,
)


def main() -> None:
    """Parse the command line and train."""
    parser = verb_parser(__doc__)
    data = parser.add_argument_group('data')
    data.add_argument(
        'data', nargs='?', metavar='DATA', help='folder, COCO json or data.yaml; it is recognized'
    )
    data.add_argument(
        '--val-fraction',
        type=float,
        default=0.2,
        metavar='F',
        help='DATA without a validation split: fraction of its images that becomes one (default: 0.2)',
    )
    data.add_argument('--train', help='COCO json, folder of label maps, or folder of class folders')
    data.add_argument('--val', help='likewise')
    data.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='DIR',
        help='image folder: one for both splits, or one for train and one for val; none for class folders',
    )
    data.add_argument(
        '--classes', nargs='+', metavar='NAME', help='label maps: names of the values 0, 1, ...'
    )
    data.add_argument(
        '--ignore', type=int, metavar='VALUE', help='label maps: a further ignored value, besides 255'
    )
    data.add_argument(
        '--no-masks',
        dest='masks',
        action='store_false',
        help='learn boxes only, although all or some objects have masks',
    )
    model = parser.add_argument_group('model')
    model.add_argument(
        '--model',
        help='COCO json: cascade, mask-rcnn, dino, mask2former or rtmdet-ins; label maps: upernet, fpn or '
        'mask2former-semantic; class folders: classifier (default: the first of them)',
    )
    model.add_argument('--arch', help='FasterViT 0 to 4, or nano for a CPU (default: 0)')
    model.add_argument(
        '--start',
        metavar='WEIGHTS',
        help='initial weights: published (of nano: those of this package), nothing (from scratch), or a '
        'checkpoint or work dir, whose classes may differ (default: published)',
    )
    schedule = parser.add_argument_group('schedule')
    schedule.add_argument('--preset', help='length: quick, standard or long (default: standard)')
    schedule.add_argument(
        '--size',
        type=parse_size,
        metavar='HxW',
        help='size of images, or of crops of label maps (default: from the data)',
    )
    schedule.add_argument('--batch', type=int, help='images per process (default: what fits into memory)')
    schedule.add_argument(
        '--accumulate', type=int, default=1, metavar='N', help='batches per optimizer step (default: 1)'
    )
    schedule.add_argument(
        '--augment',
        help='augmentation: none, light, or strong for few images and long training (default: light); '
        'WORK_DIR/augmented.jpg shows it',
    )
    schedule.add_argument(
        '--no-flip',
        dest='flip',
        action='store_false',
        help='never mirror images: for text, signs, left and right',
    )
    schedule.add_argument('--epochs', type=int, help="number of epochs (default: the preset's)")
    schedule.add_argument(
        '--lr', type=float, help="learning rate for the images of a step (default: the paper's, scaled)"
    )
    schedule.add_argument('--seed', type=int, help='random seed (default: 0)')
    schedule.add_argument('--no-amp', dest='amp', action='store_false', help='train in float32 on a GPU too')
    run = parser.add_argument_group('run')
    run.add_argument(
        '--work-dir',
        metavar='DIR',
        help='folder of config, checkpoints and logs (default: work_dirs/finetune/NAME_MODEL_ARCH)',
    )
    run.add_argument(
        '--log',
        nargs='+',
        default=[],
        metavar='NAME',
        help='also log to: tensorboard, wandb (offline), mlflow',
    )
    run.add_argument('--resume', action='store_true', help='resume the run in the work dir')
    run.add_argument(
        '--config-only',
        action='store_true',
        help='only write the config, to edit it',
    )
    run.add_argument('--dry-run', action='store_true', help='only print what would be done')
    add_verbose(parser)
    add_trust_argument(parser)
    args = vars(parse_strictly(parser, intermixed=True))

    from fastervit_backbone.finetune import finetune
    from fastervit_backbone.utils.trust import trusting_pickles  # after parsing: --help stays fast
    from fastervit_backbone.utils.verbosity import verbosely

    with trusting_pickles(args.pop('trust_pickle')), verbosely(args.pop('verbose')):
        finetune(**args)
