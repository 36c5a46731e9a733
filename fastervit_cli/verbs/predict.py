"""Predict on images, folders, patterns and videos: annotated pictures, a COCO json, label maps.

Example:      fastervit predict CONFIG CHECKPOINT photos/ 'more/*.jpg' clip.mp4 --out predictions
Published:    fastervit predict my_model photos/ --out predictions   (fastervit publish)
Exported:     fastervit predict model.onnx photos/ --out predictions
Evaluation:   fastervit predict CONFIG CHECKPOINT images --annotations a.json --threshold 0 --out eval
Large images: fastervit predict CONFIG CHECKPOINT aerial.tif --tile 1024 --size 1024x1024 --out tiles

Several GPUs:
torchrun --nproc-per-node 4 -m fastervit_backbone predict CONFIG CHECKPOINT photos/ --out predictions

Repeat the command to resume a run that was stopped. Exit code 1: some inputs failed and were skipped.
"""

import sys

from ..options import (
    add_model_arguments,
    hide_toolkit_warnings,
    parse_strictly,
    verb_parser,
)


def main() -> None:
    """Parse the command line and predict."""
    parser = verb_parser(__doc__)
    add_model_arguments(parser)
    parser.add_argument(
        'sources', nargs='*', metavar='SOURCE', help='image, folder, pattern in quotes, or video'
    )
    parser.add_argument(
        '--annotations',
        metavar='JSON',
        help='predict on the images of this COCO json, with its ids; SOURCE is their folder (default: the '
        'folder of the json)',
    )
    parser.add_argument('--batch', type=int, help="images per batch (default: 1, or an exported file's)")
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--deploy', action='store_true', help='deploy mode: a faster backbone, same results up to rounding'
    )
    parser.add_argument(
        '--compile', action='store_true', help='torch.compile the backbone (needs a C++ compiler)'
    )
    parser.add_argument(
        '--tile', type=int, metavar='PIXELS', help='split larger images into overlapping tiles'
    )
    parser.add_argument(
        '--overlap',
        type=float,
        default=0.2,
        help='overlap of tiles, as a fraction of their side (default: 0.2)',
    )
    results = parser.add_argument_group('results')
    results.add_argument('--out', required=True, metavar='DIR', help='output folder')
    results.add_argument(
        '--save',
        nargs='+',
        default=[],
        choices=['csv', 'yolo', 'polygons'],
        help='also predictions.csv, yolo/ with a label file for each image and data.yaml, or polygons.json '
        '(COCO, exact to the pixel)',
    )
    results.add_argument(
        '--threshold',
        type=float,
        default=0.3,
        help='lowest score, 0 to 1 (default: 0.3; for evaluation use 0)',
    )
    results.add_argument('--classes', nargs='+', metavar='NAME', help='only these classes (default: all)')
    results.add_argument(
        '--no-draw', dest='draw', action='store_false', help='write no annotated pictures and videos'
    )
    results.add_argument('--overwrite', action='store_true', help='replace existing results in --out')
    args = parse_strictly(parser, intermixed=True)
    hide_toolkit_warnings()

    from fastervit_backbone.checkpoints.model_folder import is_published
    from fastervit_backbone.inference.exported import is_exported
    from fastervit_backbone.inference.predictor import Predictor  # after parsing: --help stays fast
    from fastervit_backbone.inference.sources import choose_sources
    from fastervit_backbone.prediction.processes import Share
    from fastervit_backbone.prediction.run import PredictionRun
    from fastervit_backbone.utils.trust import trusting_pickles

    is_whole = is_exported(args.config) or is_published(args.config)
    if is_whole and args.checkpoint is not None:  # it needs none: that was an image
        args.sources, args.checkpoint = [args.checkpoint, *args.sources], None
    sources, image_ids = choose_sources(args.sources, args.annotations, exclude=args.out)
    shared = dict(
        threshold=args.threshold,
        classes=args.classes,
        size=args.size,
        tile=args.tile,
        overlap=args.overlap,
        amp=args.amp,
        options=args.cfg_options,
    )
    share = Share.of_environment()
    device = share.device(args.device)
    with trusting_pickles(args.trust_pickle):
        faster = dict(deploy=args.deploy, compile=args.compile)
        predictor = Predictor(args.config, args.checkpoint, device=device, **faster, **shared)
    settings = dict(shared, pictures=args.draw)
    if args.annotations is not None:
        settings['annotations'] = args.annotations
    run = PredictionRun(
        predictor,
        args.out,
        settings,
        batch=predictor.batch if args.batch is None else args.batch,
        pictures=args.draw,
        overwrite=args.overwrite,
        image_ids=image_ids,
        save=args.save,
        share=share,
    )
    report = run.run(sources)
    if share.rank > 0:
        return  # an exit code would stop the first process, which writes the results
    print('\n'.join(report.lines()), flush=True)
    sys.exit(1 if report.failed else 0)
