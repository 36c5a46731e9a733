"""Train a detector, segmenter or classifier on your own data with one command.

Anything:   fastervit finetune my_data   (COCO, Roboflow, YOLO, VOC, images/ and labels/, class folders)
Objects:    fastervit finetune --train train.json --val val.json --images images/ --model cascade
Label maps: fastervit finetune --train labels/train --val labels/val --images images/train images/val \\
                --classes sky road --model fpn
Classes:    fastervit finetune --train images/train --val images/val   (one folder per class)

It checks the data, chooses batch size, image size and schedule for data and machine, trains, and keeps the
best checkpoint. --dry-run prints these choices. They are written as one config, WORK_DIR/finetune.py, for
fastervit train. Without a GPU, add --arch nano --preset quick. On several GPUs:
torchrun --nproc-per-node 8 -m fastervit_cli finetune my_data
"""

from ..options import (
    add_fields,
    add_trust_argument,
    add_verbose,
    freeze_imports,
    parse_strictly,
    values_of,
    verb_parser,
)
from ..package import options


def main() -> None:
    """Parse the command line and train."""
    parser, kind = verb_parser(__doc__), options('FinetuneOptions')
    add_fields(parser, kind)
    add_verbose(parser)
    add_trust_argument(parser)
    args = parse_strictly(parser, intermixed=True)

    from fastervit_backbone.finetune import finetune  # after parsing: --help stays fast
    from fastervit_backbone.utils.trust import trusting_pickles
    from fastervit_backbone.utils.verbosity import verbosely

    freeze_imports()
    with trusting_pickles(args.trust_pickle), verbosely(args.verbose):
        finetune(**values_of(args, kind))
