"""Draw where a trained FasterViT looks: attention of one pixel to its window and, through carriers, beyond.

Example: fastervit visualize-attention CONFIG CHECKPOINT photo.jpg --query 200 310 --out attention

It writes attention_*.png (window, carriers, every head) and bias_*.png (their position biases).
With --bias it needs no image and writes kernels_*.png: the bias of every offset, a kernel per head.
"""

from ..options import (
    add_model_arguments,
    hide_toolkit_warnings,
    parse_strictly,
    verb_parser,
)


def main() -> None:
    """Parse the command line and draw."""
    parser = verb_parser(__doc__)
    add_model_arguments(parser)
    parser.add_argument('image', nargs='?', help='image file, of any size')
    parser.add_argument(
        '--bias', action='store_true', help='draw the position bias of every offset (figure S.3)'
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='output folder')
    parser.add_argument(
        '--query',
        type=float,
        nargs=2,
        metavar=('Y', 'X'),
        help='pixel of the image whose attention is drawn (default: its center)',
    )
    parser.add_argument('--stage', type=int, default=3, help='stage, 3 or 4 (default: 3)')
    parser.add_argument(
        '--block',
        type=int,
        default=-1,
        help='block of the stage, from 0; negative from the end (default: -1)',
    )
    args = parse_strictly(parser, intermixed=True)
    hide_toolkit_warnings()

    from fastervit_backbone.checkpoints.model_folder import is_published
    from fastervit_backbone.inference.exported_formats import is_exported

    if is_published(args.config) and args.image is None:  # it needs no checkpoint: that was an image
        args.checkpoint, args.image = None, args.checkpoint
    if is_exported(args.config):
        parser.error(f'{args.config} has no attention to look at: give the config and the checkpoint')
    if args.bias == (args.image is not None) or (args.bias and args.query):
        parser.error('give an image, with or without --query, or --bias, not both')
    # after parsing: --help stays fast
    from fastervit_backbone.inference import Predictor
    from fastervit_backbone.inference.attention_pictures import visualize
    from fastervit_backbone.utils.files import check_folder_writable
    from fastervit_backbone.utils.trust import trusting_pickles

    check_folder_writable('--out', args.out)
    with trusting_pickles(args.trust_pickle):
        predictor = Predictor(
            args.config, args.checkpoint, device=args.device, size=args.size, options=args.cfg_options
        )
    if args.bias:
        from fastervit_paper.position_pictures import draw_kernels

        net = predictor.model.backbone
        print('\n'.join(draw_kernels(net, args.out, stage=args.stage, block=args.block)))
        return
    query = None if args.query is None else tuple(args.query)
    lines = visualize(predictor, args.image, args.out, query=query, stage=args.stage, block=args.block)
    print('\n'.join(lines))
