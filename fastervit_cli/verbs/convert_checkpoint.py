"""Extract the backbone weights of a FasterViT checkpoint, without optimizer, derived buffers and classifier.

Example: fastervit convert-checkpoint fastervit_0_224_1k.pth.tar fastervit_0.safetensors
"""

from ..options import add_trust_argument, parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and convert."""
    parser = verb_parser(__doc__)
    parser.add_argument(
        'input', help='published file (path or URL), or checkpoint of a model with a FasterViT'
    )
    parser.add_argument('output', help='output file, .safetensors or .pth')
    parser.add_argument('--half', action='store_true', help='write matrices in float16')
    add_trust_argument(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.utils.trust import trusting_pickles  # after parsing: --help stays fast
    from fastervit_paper.released_dino import convert_checkpoint

    with trusting_pickles(args.trust_pickle):
        print(convert_checkpoint(args.input, args.output, half=args.half))
    print(f'written: {args.output}')
