"""Train a detector, segmenter or classifier from a config.

Example:      fastervit train configs/cascade_fastervit0_3x.py --amp
Resume:       fastervit train configs/cascade_fastervit0_3x.py --amp --resume
Several GPUs: torchrun --nproc-per-node 8 -m fastervit_cli train CONFIG --launcher pytorch

The learning rate is scaled to the batch size. SIGTERM and Ctrl-C save a checkpoint before the run stops.
"""

from ..options import (
    add_fields,
    add_process_arguments,
    freeze_imports,
    parse_strictly,
    values_of,
    verb_parser,
)
from ..package import options


def main() -> None:
    """Parse the command line and train."""
    parser, kind = verb_parser(__doc__), options('TrainOptions')
    add_fields(parser, kind)
    add_process_arguments(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.train import train  # after parsing: --help stays fast
    from fastervit_backbone.utils.trust import trusting_pickles
    from fastervit_backbone.utils.verbosity import verbosely

    freeze_imports()
    with trusting_pickles(args.trust_pickle), verbosely(args.verbose):
        train(**values_of(args, kind))
