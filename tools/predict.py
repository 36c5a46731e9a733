#!/usr/bin/env python
"""Predict on images, folders, patterns and videos: pictures, a COCO json, label maps.

Example: python tools/predict.py configs/demo/cascade_shapes.py work_dirs/demo/cascade photos/ clip.mp4 --out predictions
A split of a data set: python tools/predict.py CONFIG CHECKPOINT images/ --annotations test.json --out predictions --threshold 0
A killed run goes on where it stopped when it is started again. Exit code 1: something could not be read, the rest is done.
"""

import argparse
import sys

from fastervit_backbone.utils.console import (
    OptionAction,
    add_trust_argument,
    parse_size,
    parse_strictly,
    run_cli,
)


def main() -> None:
    """Parse and predict."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights, or a work dir: its last checkpoint')
    parser.add_argument(
        'sources', nargs='*', metavar='SOURCE', help="image, folder, pattern ('a/*.jpg', in quotes) or video"
    )
    parser.add_argument(
        '--annotations',
        metavar='JSON',
        help='predict on the images of this COCO json, with its ids; SOURCE is their folder, if not its own',
    )
    parser.add_argument('--out', required=True, help='folder for the results')
    parser.add_argument(
        '--threshold',
        type=float,
        default=0.3,
        help='least score of an object, 0..1 (default 0.3; 0 for evaluation)',
    )
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='these alone')
    parser.add_argument('--batch', type=int, default=1, help='images that the model sees at a time')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 (default: CUDA where there is a device)')
    parser.add_argument(
        '--size', type=parse_size, metavar='HxW', help="fit images into this size (default: the config's)"
    )
    parser.add_argument('--tile', type=int, help='cut larger images into overlapping tiles of so many pixels')
    parser.add_argument(
        '--overlap', type=float, default=0.2, help='of neighbouring tiles, part of their side (default 0.2)'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--deploy',
        action='store_true',
        help='run the backbone in deploy mode: faster, same results within rounding',
    )
    parser.add_argument(
        '--no-draw', dest='draw', action='store_false', help='no annotated pictures and videos'
    )
    parser.add_argument('--overwrite', action='store_true', help='do again what is done')
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', help='change the config'
    )
    add_trust_argument(parser)
    args = parse_strictly(parser)

    from fastervit_backbone.apis.prediction_run import PredictionRun, settings_of
    from fastervit_backbone.apis.predictor import Predictor
    from fastervit_backbone.apis.sources import choose_sources
    from fastervit_backbone.checkpoints.io import trusting_pickles  # after parsing: --help answers at once

    sources, ids = choose_sources(args.sources, args.annotations, leave_out=args.out)
    shared = dict(
        threshold=args.threshold, classes=args.classes, size=args.size, tile=args.tile, overlap=args.overlap
    )
    options = args.cfg_options
    with trusting_pickles(args.trust_pickle):
        predictor = Predictor(
            args.config,
            args.checkpoint,
            device=args.device,
            amp=args.amp,
            deploy=args.deploy,
            options=options,
            **shared,
        )
    settings = settings_of(
        predictor, args.checkpoint, amp=args.amp, options=options, pictures=args.draw, **shared
    )
    if args.annotations is not None:
        settings['annotations'] = args.annotations
    job = PredictionRun(
        predictor,
        args.out,
        settings,
        batch=args.batch,
        pictures=args.draw,
        overwrite=args.overwrite,
        image_ids=ids,
    )
    report = job.run(sources)
    print('\n'.join(report.lines()), flush=True)
    sys.exit(1 if report.failed else 0)


if __name__ == '__main__':
    run_cli(main)
