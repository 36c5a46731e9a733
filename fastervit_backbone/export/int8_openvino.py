"""INT8 for OpenVINO files by NNCF, with control of accuracy."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from ..inference.exported import ExportedModel
from ..inference.session import Session
from .int8_layers import LAST_LAYERS, POSITIONS, Quantized

_PRODUCTS = ('Convolution', 'GroupConvolution', 'MatMul', 'ConvolutionBackpropData')
#: Operators that only move values, or scale weights.
_CARRY_ON = tuple(
    'Transpose Reshape Convert Multiply Subtract Slice StridedSlice Gather Split VariadicSplit Squeeze '
    'Unsqueeze Pad Concat MaxPool'.split()
)


def quantize(
    path: Path,
    exported: ExportedModel,
    batches: Sequence[np.ndarray],
    layers: Mapping[str, str],
    worst_change: Callable[[ExportedModel], float] | None,
    most: float,
) -> Quantized:
    """Quantize a file in place; see :func:`~.int8.quantize`."""
    import nncf

    model = ov.Core().read_model(path)
    last, positions = (
        {*_operators_of(model, [t for name, t in layers.items() if any(part in name for part in parts)])}
        for parts in (LAST_LAYERS, POSITIONS)
    )
    ignored = nncf.IgnoredScope(names=sorted(last | positions))
    if worst_change is None:
        quantized = _run_nncf(nncf.quantize, model, batches, ignored_scope=ignored)
    else:
        metric = worst_change

        def validate(compiled: Any, _: object) -> tuple[float, None]:
            clone = copy.copy(exported)
            clone.session = _Running(compiled, exported.session)
            return 1 + metric(clone), None

        quantized = _run_nncf(
            nncf.quantize_with_accuracy_control,
            model,
            batches,
            ignored_scope=ignored,
            validation_dataset=nncf.Dataset(batches[:1]),  # the function has its own images
            validation_fn=validate,
            max_drop=most,
            drop_type=nncf.DropType.ABSOLUTE,
        )
    del model
    report = _report(quantized, last, positions, layers)
    _replace(path, quantized)
    return report


def quantize_plainly(path: Path, batches: Sequence[np.ndarray]) -> None:
    """Quantize a file in place, without control of accuracy."""
    import nncf

    _replace(path, _run_nncf(nncf.quantize, ov.Core().read_model(path), batches))


def _run_nncf(function: Callable[..., Any], model: Any, batches: Sequence[Any], **options: Any) -> Any:
    """Call one of NNCF's quantizations with what both have in common, quietly."""
    import nncf

    nncf.set_log_level('ERROR')
    os.environ.setdefault('TQDM_DISABLE', '1')
    with redirect_stdout(StringIO()):
        return function(
            model,
            calibration_dataset=nncf.Dataset(list(batches)),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            **options,
        )


def _replace(path: Path, model: Any) -> None:
    """Write a model over the file that it was read from, which it may still map."""
    target = path.with_name(f'int8_{path.name}')
    ov.save_model(model, target, compress_to_fp16=False)
    for file in (target, target.with_suffix('.bin')):
        file.replace(file.with_name(file.name.removeprefix('int8_')))


class _Running:
    """A compiled model as a session."""

    def __init__(self, compiled: Any, like: Session) -> None:
        self.device, self.inputs, self.outputs = like.device, like.inputs, like.outputs
        self.shapes, self.dtype = like.shapes, like.dtype
        self._compiled = compiled

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the results of images (B, H, W, channels)."""
        return list(self._compiled(images).values())


def _report(model: Any, last: set[str], positions: set[str], layers: Mapping[str, str]) -> Quantized:
    modules = {tensor: name for name, tensor in layers.items()}
    result = Quantized(products=0)
    for node in model.get_ops():
        if node.get_type_name() not in _PRODUCTS:
            continue
        result.products += 1
        if any(_reads_8_bits(source) for source in _sources(node)):
            continue
        name = node.get_friendly_name()
        why = 'last layer' if name in last else 'position' if name in positions else 'chosen by NNCF'
        result.kept.append(f'{_module_of(node, modules) or name} ({why})')
    return result


def _sources(node: Any) -> list[Any]:
    return [port.get_source_output().get_node() for port in node.inputs()]


def _results(node: Any) -> set[str]:
    return {name for port in node.outputs() for name in port.get_names()}


def _operators_of(model: Any, tensors: Sequence[str]) -> list[str]:
    """Return the names of the convolutions and products that make the named results, bias or not."""
    wanted, names = set(tensors), []
    for node in model.get_ops():
        if not wanted & _results(node):
            continue
        for _ in range(4):  # through the bias and reshapes
            if node.get_type_name() in _PRODUCTS:
                names.append(node.get_friendly_name())
                break
            inner = [n for n in _sources(node) if n.get_type_name() != 'Constant']
            if not inner:
                break
            node = inner[0]
    return names


def _reads_8_bits(node: Any) -> bool:
    """Whether values come from a quantizer or from 8-bit weights."""
    for _ in range(8):
        kind = node.get_type_name()
        if kind == 'FakeQuantize':
            return True
        if kind == 'Constant':
            return node.get_element_type().get_type_name() in ('i8', 'u8')
        if kind not in _CARRY_ON:
            return False
        node = _sources(node)[0]
    return False


def _module_of(node: Any, modules: dict[str, str]) -> str | None:
    """Name the module of an operator by its result, or by that of the bias after it.

    Args:
        node: the operator.
        modules: name of a result -> module.
    """
    for _ in range(3):
        found = [modules[name] for name in _results(node) if name in modules]
        if found:
            return found[0].removeprefix('model.')
        targets = [target.get_node() for port in node.outputs() for target in port.get_target_inputs()]
        if len(targets) != 1:
            return None
        node = targets[0]
    return None
