"""Serve a local web page to try a model: drop an image, move the score threshold, download the JSON.

Example:  fastervit app configs/demo/cascade_shapes.py work_dirs/demo/cascade
Exported: fastervit app model.onnx

Then open http://127.0.0.1:7860; Ctrl-C stops the server. Only this machine can reach the page; with
--host 0.0.0.0 everyone in the network can, and can run the model.
"""

from ..options import (
    add_model_arguments,
    hide_toolkit_warnings,
    parse_strictly,
    verb_parser,
)


def main() -> None:
    """Parse the command line and serve until Ctrl-C."""
    parser = verb_parser(__doc__)
    add_model_arguments(parser)
    parser.add_argument(
        '--deploy', action='store_true', help='deploy mode: a faster backbone, same results up to rounding'
    )
    parser.add_argument('--threshold', type=float, default=0.3, help='initial score threshold (default: 0.3)')
    page = parser.add_argument_group('server')
    page.add_argument(
        '--host', default='127.0.0.1', help='address to listen on (default: 127.0.0.1, only this machine)'
    )
    page.add_argument('--port', type=int, default=7860, help='port to listen on (default: 7860)')
    page.add_argument(
        '--max-megapixels', type=float, default=30.0, metavar='N', help='reject larger images (default: 30)'
    )
    page.add_argument(
        '--max-megabytes', type=int, default=50, metavar='N', help='reject larger files (default: 50)'
    )
    args = parse_strictly(parser, intermixed=True)
    hide_toolkit_warnings()

    from pathlib import Path

    from fastervit_backbone.inference import Predictor
    from fastervit_backbone.prediction.app import MIN_SCORE, build_app  # after parsing: --help stays fast
    from fastervit_backbone.utils.errors import UserError
    from fastervit_backbone.utils.trust import trusting_pickles

    options = dict(device=args.device, size=args.size, deploy=args.deploy, options=args.cfg_options)
    with trusting_pickles(args.trust_pickle):
        predictor = Predictor(args.config, args.checkpoint, threshold=MIN_SCORE, **options)
    app = build_app(
        predictor, threshold=args.threshold, megapixels=args.max_megapixels, title=Path(args.config).stem
    )
    limits = dict(max_file_size=args.max_megabytes * 2**20, share=False, show_error=True)
    try:
        app.queue(max_size=16).launch(server_name=args.host, server_port=args.port, **limits)
    except OSError as error:
        raise UserError(f'--host {args.host} --port {args.port}: {error}') from error
