#!/usr/bin/env python
"""Where a trained backbone looks: attention of one place of an image in its window and through the carriers, and the position biases.

Example: python tools/visualize_attention.py configs/demo/cascade_shapes.py work_dirs/demo/cascade photo.jpg --query 200 310 --out attention
"""

import argparse

from fastervit_backbone.utils.console import (
    OptionAction,
    add_trust_argument,
    parse_size,
    parse_strictly,
    run_cli,
)


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, its backbone a FasterViT')
    parser.add_argument('checkpoint', help='weights, or a work dir: its last checkpoint')
    parser.add_argument('image', help='any size')
    parser.add_argument('--out', required=True, help='folder for the pictures')
    parser.add_argument(
        '--query', type=float, nargs=2, metavar=('Y', 'X'), help='pixel of the image (default: its middle)'
    )
    parser.add_argument('--stage', type=int, default=3, help='3 or 4 (3)')
    parser.add_argument(
        '--block', type=int, default=-1, help='of the stage, from 0; negative from the end (-1)'
    )
    parser.add_argument(
        '--size', type=parse_size, metavar='HxW', help="fit the image into this size (default: the config's)"
    )
    parser.add_argument('--device', help='cpu, cuda, cuda:1 (default: CUDA where there is a device)')
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', help='change the config'
    )
    add_trust_argument(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.apis.attention_pictures import visualize  # after parsing: --help answers at once
    from fastervit_backbone.checkpoints.io import trusting_pickles
    from fastervit_backbone.inference import Predictor
    from fastervit_backbone.utils.files import check_folder_writable

    check_folder_writable('--out', args.out)
    with trusting_pickles(args.trust_pickle):
        predictor = Predictor(
            args.config, args.checkpoint, device=args.device, size=args.size, options=args.cfg_options
        )
    query = None if args.query is None else tuple(args.query)
    print(
        '\n'.join(visualize(predictor, args.image, args.out, query=query, stage=args.stage, block=args.block))
    )


if __name__ == '__main__':
    run_cli(main)
