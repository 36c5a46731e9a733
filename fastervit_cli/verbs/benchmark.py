"""Compare the speed of models, interleaved in one process; the first model is the baseline.

Backbones:      fastervit benchmark published:2 fastervit:2 fastervit:2:deploy --size 800x1280 8x224x224 --dtype fp32 bf16
Detectors:      fastervit benchmark configs/cascade_fastervit2_3x.py configs/baselines/cascade_swin-t_3x.py
Stages:         fastervit benchmark fastervit:2:deploy --stages
Data pipeline:  fastervit benchmark --data configs/cascade_fastervit0_3x.py

MODEL is one of
  fastervit:ARCH[:deploy]  this package, ARCH as in docs/backbone.md; :carrier_window=N after ARCH
                           for carriers of higher order
  fastervit:ARCH:onnx      the same exported, run by onnxruntime; :onnx-int8, :openvino, :openvino-int8;
                           also CONFIG.py[:CHECKPOINT]:onnx and so on
  FILE.onnx or FILE.xml    a file of fastervit export, with its size and its accuracy
  stage:ARCH:NUMBER        one of its stages, 1 to 4; :carrier_window=N likewise
  published:ARCH           the published implementation (pip install fastervit)
  timm:NAME                a model of timm
  fastervit:ARCH:compile   through torch.compile; also CONFIG.py[...]:compile
  CONFIG.py[:CHECKPOINT][:deploy]  the whole detector or segmenter of a config (default: random weights)
  windows:ARCH:KERNEL      only the attention within windows of stage 3: sdpa (the model's), flex or plain
"""  # noqa: E501 (a command to copy)

import os

from ..options import parse_size, parse_strictly, verb_parser


def main() -> None:
    """Parse the command line and measure."""
    parser = verb_parser(__doc__)
    parser.add_argument('models', nargs='*', metavar='MODEL', help='models to compare, see above')
    parser.add_argument(
        '--size',
        nargs='+',
        default=['800x1280'],
        metavar='[BATCHx]HEIGHTxWIDTH',
        help='input sizes; 224 is 224x224 (default: 800x1280)',
    )
    parser.add_argument('--batch', type=int, default=1, help='batch size, where --size has none (default: 1)')
    parser.add_argument(
        '--dtype',
        nargs='+',
        default=['fp32'],
        choices=['fp32', 'tf32', 'bf16', 'fp16'],
        help='precisions, one table each (default: fp32)',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='device (default: cuda if available)')
    parser.add_argument('--channels-last', action='store_true', help='use channels-last memory format')
    parser.add_argument('--compile', action='store_true', help='use torch.compile')
    parser.add_argument('--train', action='store_true', help='measure forward and backward, not inference')
    parser.add_argument(
        '--rounds', type=int, default=15, help='number of measurements per model (default: 15)'
    )
    parser.add_argument('--threads', type=int, help="number of CPU threads (default: torch's)")
    parser.add_argument(
        '--stages',
        action='store_true',
        help='profile one FasterViT: time, FLOPs and memory by stage, and time by operation',
    )
    parser.add_argument(
        '--data', metavar='CONFIG', help="measure a config's data loading and COCO evaluation, in images/s"
    )
    parser.add_argument(
        '--advise-size',
        type=parse_size,
        metavar='HxW',
        help='measure nothing: list sizes around this one at which no window is padded, with their cost',
    )
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='measure whole predictions of these photographs: CONFIG.py:CHECKPOINT[:deploy], exported files',
    )
    parser.add_argument(
        '--objects',
        type=int,
        metavar='N',
        help="lower a detector's score threshold until it finds N objects in an image (default: leave it: "
        'with random weights, few)',
    )
    parser.add_argument('--out', metavar='PATH', help='also write PATH.md with pictures, and PATH.json')
    args = parse_strictly(parser)
    # before torch is imported: the profiler, which counts memory, writes about itself
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

    from fastervit_backbone.benchmark import candidates, run  # after parsing: --help stays fast
    from fastervit_paper.stage_profile import write_stages
    from fastervit_paper.window_kernels import build_windows

    candidates.MORE_KINDS['windows'] = build_windows
    run.run(**vars(args) | dict(stages=write_stages if args.stages else None))
