"""Publish the best model of a run: a folder with weights, config and model card, for others to use.

Example: fastervit publish my_run my_model
         fastervit predict my_model photos/ --out predictions
Hub:     fastervit publish my_run my_model --upload USER/NAME   (then its name is hf://USER/NAME)
"""

from ..options import add_trust_argument, parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and publish."""
    parser = verb_parser(__doc__)
    parser.add_argument('run', help='work dir of a training')
    parser.add_argument('out', help='folder to create')
    parser.add_argument('--checkpoint', help='of the run (default: its best, else its last)')
    parser.add_argument('--upload', metavar='USER/NAME', help='also upload it to the Hugging Face Hub')
    add_trust_argument(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.publish import publish, upload  # after parsing: --help stays fast
    from fastervit_backbone.utils.trust import trusting_pickles

    with trusting_pickles(args.trust_pickle):
        folder = publish(args.run, args.out, checkpoint=args.checkpoint)
    line = f'written: {folder}; use it: fastervit predict {folder} photos/ --out predictions'
    print(line)
    if args.upload:
        print(f'uploaded: {upload(folder, args.upload)}')
