"""Predict on images, folders, patterns and videos: annotated pictures, a COCO json, label maps.

Example:      fastervit predict CONFIG CHECKPOINT photos/ 'more/*.jpg' clip.mp4 --out predictions
Published:    fastervit predict my_model photos/ --out predictions   (fastervit publish)
Exported:     fastervit predict model.onnx photos/ --out predictions
Evaluation:   fastervit predict CONFIG CHECKPOINT images --annotations a.json --threshold 0 --out eval
Large images: fastervit predict CONFIG CHECKPOINT aerial.tif --tile 1024 --size 1024x1024 --out tiles

Several GPUs:
torchrun --nproc-per-node 4 -m fastervit_cli predict CONFIG CHECKPOINT photos/ --out predictions

Repeat the command to resume a run that was stopped. Exit code 1: some inputs failed and were skipped.
"""

import sys

from ..options import (
    add_fields,
    add_threads,
    add_trust_argument,
    hide_toolkit_warnings,
    parse_strictly,
    values_of,
    verb_parser,
)
from ..package import options


def main() -> None:
    """Parse the command line and predict."""
    parser, kind = verb_parser(__doc__), options('PredictOptions')
    add_fields(parser, kind)
    add_threads(parser)
    add_trust_argument(parser)
    args = parse_strictly(parser, intermixed=True)
    hide_toolkit_warnings()

    from fastervit_backbone.prediction import predict  # after parsing: --help stays fast
    from fastervit_backbone.utils.trust import trusting_pickles

    with trusting_pickles(args.trust_pickle):
        report = predict(**values_of(args, kind))
    if report.rank > 0:
        return  # an exit code would stop the first process, which writes the results
    print('\n'.join(report.lines()), flush=True)
    sys.exit(1 if report.failed else 0)
