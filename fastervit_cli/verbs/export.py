"""Export a model to ONNX, OpenVINO or torch.export, and compare the file with the model.

Example:      fastervit export CONFIG CHECKPOINT --size 800x1344 --out exported
Any size:     fastervit export upernet_fastervit0_160k CHECKPOINT --dynamic --out exported
8 bits:       fastervit export CONFIG CHECKPOINT --size 512x512 --format openvino --int8 photos \
                --verify photos --annotations val.json --out exported
Check again:  fastervit export CONFIG CHECKPOINT --check exported/model.onnx

The file takes RGB images and is a model for predict, test and app. Exit code 1: it differs from the model
and was renamed to .rejected.
"""

import shlex
from pathlib import Path

from ..options import (
    add_cfg_options,
    add_threads,
    add_trust_argument,
    hide_toolkit_warnings,
    parse_size,
    parse_strictly,
    verb_parser,
)


def main() -> None:
    """Parse the command line and export."""
    parser = verb_parser(__doc__)
    parser.add_argument('config', help='config that the model was trained with, or a published folder')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file or URL, or a work dir (its last checkpoint); none if CONFIG is no config',
    )
    parser.add_argument('--out', metavar='DIR', help='output folder')
    parser.add_argument(
        '--format', choices=['onnx', 'openvino', 'torch-export'], default='onnx', help='default: onnx'
    )
    size = parser.add_argument_group('images').add_mutually_exclusive_group()
    size.add_argument(
        '--size', type=parse_size, metavar='HxW', help='size of the images, which are fitted into it'
    )
    size.add_argument('--dynamic', action='store_true', help='images of any size (backbones, segmenters)')
    parser.add_argument('--batch', type=int, default=1, help='images in a call (default: 1)')
    parser.add_argument(
        '--float-input', action='store_true', help='take float32 images of 0 to 255, instead of uint8'
    )
    parser.add_argument('--backbone', action='store_true', help='only the backbone')
    parser.add_argument('--half', action='store_true', help='16-bit floats')
    parser.add_argument(
        '--int8', metavar='FOLDER', help='8-bit integers, calibrated on these images (openvino)'
    )
    gate = parser.add_argument_group('comparison')
    gate.add_argument('--verify', metavar='FOLDER', help='images to compare on (default: generated ones)')
    gate.add_argument(
        '--annotations', metavar='PATH', help='truth of these images: COCO json, or folder of label maps'
    )
    gate.add_argument('--check', metavar='FILE', help='compare this file again instead of exporting')
    add_cfg_options(parser)
    add_threads(parser)
    add_trust_argument(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.benchmark.advice import advise
    from fastervit_backbone.checkpoints.model_folder import resolve_model
    from fastervit_backbone.export import run  # after parsing: --help stays fast
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.trust import trusting_pickles

    hide_toolkit_warnings()
    common = dict(verify=args.verify, annotations=args.annotations, options=args.cfg_options)
    with trusting_pickles(args.trust_pickle):
        name = None if args.checkpoint else Path(args.config).name  # of the folder
        args.config, args.checkpoint = resolve_model(args.config, args.checkpoint)
        if args.check is not None:
            choices = ('out', 'size', 'dynamic', 'half', 'int8', 'backbone', 'float_input')
            given = [name for name in choices if getattr(args, name)]
            if given or args.batch != 1 or args.format != 'onnx':
                raise UserError('--check compares a file as it is: leave out the options of an export')
            parity = run.check(args.check, args.config, args.checkpoint, **common)
            print('\n'.join([*parity.lines(), f'accepted: {args.check}']))
            return
        if args.out is None:
            raise UserError('--out DIR is required: where does the file go?')
        if args.size is None and not args.dynamic:
            print('\n'.join(advise(args.config, args.cfg_options)))
        path, parity = run.export(
            args.config,
            args.checkpoint,
            args.out,
            format=args.format,
            size=args.size,
            batch=args.batch,
            dynamic=args.dynamic,
            half=args.half,
            float_input=args.float_input,
            int8=args.int8,
            backbone=args.backbone,
            name=name,
            **common,
        )
    lines = [*parity.lines(), f'written: {path}']
    if not args.backbone:
        lines.append(f'predict: fastervit predict {shlex.quote(str(path))} IMAGES --out predictions')
    print('\n'.join(lines))
