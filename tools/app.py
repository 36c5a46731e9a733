#!/usr/bin/env python
"""A local web page to try a model: drop an image, see boxes, masks and labels, move the threshold, download the JSON.

Example: python tools/app.py configs/demo/cascade_shapes.py work_dirs/demo/cascade
It answers on this machine alone; --host 0.0.0.0 lets others in, who then can run the model as they like.
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
    """Parse and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights, or a work dir: its last checkpoint')
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to answer on (127.0.0.1: this machine alone)'
    )
    parser.add_argument('--port', type=int, default=7860, help='(7860)')
    parser.add_argument('--threshold', type=float, default=0.3, help='where the slider starts (0.3)')
    parser.add_argument('--max-megapixels', type=float, default=30.0, help='larger images are refused (30)')
    parser.add_argument('--max-megabytes', type=int, default=50, help='larger files are refused (50)')
    parser.add_argument(
        '--size', type=parse_size, metavar='HxW', help="fit images into this size (default: the config's)"
    )
    parser.add_argument('--device', help='cpu, cuda, cuda:1 (default: CUDA where there is a device)')
    parser.add_argument(
        '--deploy',
        action='store_true',
        help='run the backbone in deploy mode: faster, same results within rounding',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', help='change the config'
    )
    add_trust_argument(parser)
    args = parse_strictly(parser)

    from pathlib import Path

    from fastervit_backbone.apis.app import LEAST, build_app
    from fastervit_backbone.checkpoints.io import trusting_pickles
    from fastervit_backbone.inference import Predictor  # after parsing: --help answers at once
    from fastervit_backbone.utils.errors import UserError

    options = dict(device=args.device, size=args.size, deploy=args.deploy, options=args.cfg_options)
    with trusting_pickles(args.trust_pickle):
        predictor = Predictor(args.config, args.checkpoint, threshold=LEAST, **options)
    app = build_app(
        predictor, threshold=args.threshold, megapixels=args.max_megapixels, title=Path(args.config).stem
    )
    limits = dict(max_file_size=args.max_megabytes * 2**20, share=False, show_error=True)
    try:
        app.queue(max_size=16).launch(server_name=args.host, server_port=args.port, **limits)
    except OSError as error:
        raise UserError(f'--host {args.host} --port {args.port}: {error}') from error


if __name__ == '__main__':
    run_cli(main)
