"""INT8: calibrated on images, with the layers in float that accuracy needs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..inference.exported import ExportedModel
from .int8_layers import Quantized


def quantize(
    path: Path,
    exported: ExportedModel,
    calibration: Sequence[np.ndarray],
    layers: Mapping[str, str],
    worst_change: Callable[[ExportedModel], float] | None,
    most: float,
    *,
    symmetric: bool = False,
) -> Quantized:
    """Quantize a file in place: OpenVINO by NNCF, ONNX by onnxruntime.

    Args:
        path: .xml or .onnx in float.
        exported: the file in float, for its way to prepare and convert.
        calibration: images as ``read_image`` returns them.
        layers: module -> name of its result in the file.
        worst_change: returns by how much the worst metric of a file changes, negative for a loss; None: there
            is no truth, accuracy is not controlled.
        most: loss of a metric that is accepted.
        symmetric: 8-bit values on both sides of 0, for TensorRT (ONNX).
    """
    batches = [_batch(exported, image) for image in calibration]
    if path.suffix == '.onnx':
        from . import int8_onnx

        return int8_onnx.quantize(path, exported, batches, worst_change, most, symmetric)
    from . import int8_openvino

    return int8_openvino.quantize(path, exported, batches, layers, worst_change, most)


def quantize_plainly(path: Path, batches: Sequence[np.ndarray]) -> None:
    """Quantize a file in place, without control of accuracy, for measurements of speed."""
    if path.suffix == '.onnx':
        from . import int8_onnx

        int8_onnx.quantize_plainly(path, batches)
        return
    from . import int8_openvino

    int8_openvino.quantize_plainly(path, batches)


def _batch(exported: ExportedModel, image: np.ndarray) -> np.ndarray:
    canvas, _ = exported.prepare(image)
    return np.concatenate([canvas[None]] * (exported.batch or 1)).astype(exported.info['dtype'])
