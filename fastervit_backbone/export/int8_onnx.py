"""INT8 for ONNX files by onnxruntime's static quantization: QuantizeLinear and DequantizeLinear."""

import copy
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization

from ..inference.exported import ExportedModel
from ..inference.session import open_session
from ..utils.files import replacing
from .int8_layers import LAST_LAYERS, POSITIONS, Quantized
from .write import module_of

#: Operators that are quantized where one side is weights; onnxruntime has 8-bit kernels for them.
_PRODUCTS = ('Conv', 'MatMul', 'Gemm')
#: Metadata of a model that onnxruntime does not want to prepare: it would rename its operators.
_PREPARED = ('onnx.quant.pre_process', 'onnxruntime.quant')


def quantize(
    path: Path,
    exported: ExportedModel,
    batches: Sequence[np.ndarray],
    worst_change: Callable[[ExportedModel], float] | None,
    most: float,
    symmetric: bool,
) -> Quantized:
    """Quantize a file in place; see :func:`~.int8.quantize`.

    Where a metric falls by more than ``most``, parts of the model go back to float, those first that alone
    give back most of it.
    """
    products = _products(path)
    parts = sorted({part for part, why in products.values() if not why})
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.int8') as folder:
        target = Path(folder) / path.name

        def change(in_float: Iterable[str]) -> float:
            chosen = set(in_float)
            kept = [name for name, (part, why) in products.items() if why or part in chosen]
            _write(path, target, batches, kept, symmetric)
            if worst_change is None:
                return 0.0
            clone = copy.copy(exported)
            clone.session = open_session(target, 'cpu')
            return worst_change(clone)

        back: list[str] = []
        if change(back) < -most:
            alone = {part: change([part]) for part in parts}
            for part in sorted(parts, key=lambda part: -alone[part]):
                back.append(part)
                if change(back) >= -most:
                    break
        target.replace(path)
    path.with_name(f'{path.name}.data').unlink(missing_ok=True)  # of the file in float
    kept = [f'{part} ({why})' for part, why in dict.fromkeys(products.values()) if why]
    kept += [f'{part} (for accuracy)' for part in back]
    return Quantized(products=len(products), kept=kept)


def quantize_plainly(path: Path, batches: Sequence[np.ndarray]) -> None:
    """Quantize a file in place, all of it."""
    with replacing(path) as target:
        _write(path, target, batches, [], symmetric=False)


def _products(path: Path) -> dict[str, tuple[str, str]]:
    """Map each convolution and product with weights to its part of the model, and why it stays in float."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    found: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type not in _PRODUCTS or not weights & set(node.input):
            continue
        name = module_of(node)
        why = ''
        if any(part in name for part in LAST_LAYERS):
            why = 'last layer'
        elif any(part in name for part in POSITIONS):
            why = 'position'
        found[node.name] = '.'.join(name.removeprefix('model.').split('.')[:4]), why
    return found


class _Images(quantization.CalibrationDataReader):
    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches: Iterator[np.ndarray] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch as the inputs of the model; None at the end."""
        images = next(self._batches, None)
        return None if images is None else {'images': images}


def _write(
    path: Path, target: Path, batches: Sequence[np.ndarray], kept: Sequence[str], symmetric: bool
) -> None:
    """Quantize ``path`` but for the operators ``kept``.

    Values are unsigned and weights signed, as VNNI multiplies them, or both signed and symmetric.
    """
    model = onnx.load(path)
    del model.graph.value_info[:]
    model.metadata_props.add(key=_PREPARED[0], value=_PREPARED[1])
    quantization.quantize_static(
        model,
        os.fspath(target),
        _Images(batches),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=list(_PRODUCTS),
        nodes_to_exclude=list(kept),
        extra_options=dict(QuantizeBias=False, MatMulConstBOnly=True, ActivationSymmetric=symmetric),
    )
