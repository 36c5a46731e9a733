"""Options of ``fastervit export``."""

from collections.abc import Mapping
from dataclasses import dataclass

from .field import Place, Size, cfg_options, option


@dataclass(frozen=True)
class ExportOptions:
    """What to export, to which format, and what it is compared on; see ``fastervit export --help``."""

    config: Place = option(
        help='config that the model was trained with, or a published folder', positional=True
    )
    checkpoint: Place | None = option(
        None,
        help='checkpoint file or URL, or a work dir (its last checkpoint); none if CONFIG is no config',
        positional=True,
    )
    out: Place | None = option(None, help='output folder', metavar='DIR')
    format: str = option('onnx', help='default: onnx', choices=['onnx', 'openvino', 'torch-export'])
    size: Size | None = option(
        None, help='size of the images, which are fitted into it', metavar='HxW', group='images'
    )
    dynamic: bool = option(
        False, help='images of any size (not with queries, not classifiers)', group='images'
    )
    batch: int = option(1, help='images in a call (default: 1)')
    float_input: bool = option(False, help='take float32 images of 0 to 255, instead of uint8')
    backbone: bool = option(False, help='only the backbone')
    half: bool = option(False, help='16-bit floats')
    proposals: str | None = option(
        None,
        help='regions in which a detector looks for objects: a number, or auto, the fewest with the same '
        "AP on the images of --verify (default: the config's)",
        metavar='N',
    )
    fixed: bool = option(
        False, help='compute all proposals and masks always, for TensorRT (elsewhere slower)'
    )
    int8: Place | None = option(
        None, help='8-bit integers, calibrated on these images (onnx, openvino)', metavar='FOLDER'
    )
    symmetric: bool = option(
        False, help='with --int8: values on both sides of 0, for TensorRT (onnx; elsewhere slower)'
    )
    verify: Place | None = option(
        None, help='images to compare on (default: generated ones)', metavar='FOLDER', group='comparison'
    )
    annotations: Place | None = option(
        None,
        help='truth of these images: COCO json, or folder of label maps',
        metavar='PATH',
        group='comparison',
    )
    check: Place | None = option(
        None, help='compare this file again instead of exporting', metavar='FILE', group='comparison'
    )
    options: Mapping[str, object] | None = cfg_options()
