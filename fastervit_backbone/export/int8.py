"""INT8 by NNCF: calibrated on images, with the layers in float that accuracy needs."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ..inference.exported import ExportedModel
from ..inference.session import Session

#: Parts of the names of the last layers, which decide about classes and coordinates and stay in float.
LAST_LAYERS = tuple(
    'fc_cls fc_reg rpn_cls rpn_reg retina_cls retina_reg conv_logits conv_seg cls_branches reg_branches '
    'sampling_offsets attention_weights ref_point_head model.head.'.split()
)
#: Position MLPs, where the size is not fixed and they are computed.
POSITIONS = ('.position.', '.bias.')
#: Operators that only move values, or scale weights.
_CARRY_ON = (
    'Transpose Reshape Convert Multiply Subtract Slice StridedSlice Gather Split VariadicSplit Squeeze '
    'Unsqueeze Pad Concat MaxPool'.split()
)
_PRODUCTS = ('Convolution', 'GroupConvolution', 'MatMul', 'ConvolutionBackpropData')


@dataclass
class Quantized:
    """What was quantized.

    Attributes:
        kept: layers in float, of those that could be quantized, and why.
        products: number of convolutions and matrix products.
    """

    products: int
    kept: list[str] = field(default_factory=list)


def quantize(
    path: Path,
    exported: ExportedModel,
    calibration: Sequence[np.ndarray],
    layers: Mapping[str, str],
    worst_change: Callable[[ExportedModel], float] | None,
    most: float,
) -> Quantized:
    """Quantize an OpenVINO file in place.

    Args:
        path: .xml in float.
        exported: the file in float, for its way to prepare and convert.
        calibration: images (H, W, 3), BGR.
        layers: module -> name of its result in the file.
        worst_change: returns by how much the worst metric of a file changes, negative for a loss; None: there
            is no truth, accuracy is not controlled.
        most: loss of a metric that is accepted.
    """
    import nncf
    import openvino as ov

    model = ov.Core().read_model(path)
    last = _operators(model, [t for name, t in layers.items() if any(part in name for part in LAST_LAYERS)])
    positions = _operators(
        model, [t for name, t in layers.items() if any(part in name for part in POSITIONS)]
    )
    ignored = nncf.IgnoredScope(names=sorted({*last, *positions}))
    batches = [_batch(exported, image) for image in calibration]
    if worst_change is None:
        quantized = _run_nncf(nncf.quantize, model, batches, ignored_scope=ignored)
    else:
        metric = worst_change

        def validate(compiled: Any, _: object) -> tuple[float, None]:
            clone = copy.copy(exported)
            clone.session = _Compiled(compiled, exported.session)
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
    _save(quantized, path)
    return _report(quantized, {*last}, {*positions}, layers)


def quantize_plainly(path: Path, batches: Sequence[np.ndarray]) -> None:
    """Quantize an OpenVINO file in place, without control of accuracy, for measurements of speed."""
    import nncf
    import openvino as ov

    _save(_run_nncf(nncf.quantize, ov.Core().read_model(path), batches), path)


def _run_nncf(function: Callable[..., Any], model: Any, batches: Sequence[np.ndarray], **options: Any) -> Any:
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


def _save(model: Any, path: Path) -> None:
    """Write a model over the file that it was read from."""
    import openvino as ov

    target = path.with_name(f'int8_{path.name}')
    ov.save_model(model, target, compress_to_fp16=False)
    del model
    for file in (target, target.with_suffix('.bin')):
        file.replace(file.with_name(file.name.removeprefix('int8_')))


class _Compiled:
    """A compiled OpenVINO model as a session."""

    def __init__(self, compiled: Any, like: Session) -> None:
        self.device, self.inputs, self.outputs = like.device, like.inputs, like.outputs
        self.shapes, self.dtype = like.shapes, like.dtype
        self._compiled = compiled

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the results of images (B, H, W, 3)."""
        return list(self._compiled(images).values())


def _batch(exported: ExportedModel, image: np.ndarray) -> np.ndarray:
    canvas, _ = exported.prepare(image)
    return np.concatenate([canvas[None]] * (exported.batch or 1)).astype(exported.info['dtype'])


def _operators(model: Any, tensors: Sequence[str]) -> list[str]:
    """Return the names of the convolutions and products that make the named results, bias or not."""
    wanted, names = set(tensors), []
    for operator in model.get_ops():
        if not any(wanted & set(output.get_names()) for output in operator.outputs()):
            continue
        for _ in range(4):  # through the bias and reshapes
            if operator.get_type_name() in _PRODUCTS:
                names.append(operator.get_friendly_name())
                break
            inputs = [port.get_source_output().get_node() for port in operator.inputs()]
            inner = [node for node in inputs if node.get_type_name() != 'Constant']
            if not inner:
                break
            operator = inner[0]
    return names


def _report(model: Any, last: set[str], positions: set[str], layers: Mapping[str, str]) -> Quantized:
    module_of = {tensor: name for name, tensor in layers.items()}
    result = Quantized(products=0)
    for operator in model.get_ops():
        if operator.get_type_name() not in _PRODUCTS:
            continue
        result.products += 1
        if any(_is_quantized(port) for port in operator.inputs()):
            continue
        name = operator.get_friendly_name()
        why = 'last layer' if name in last else 'position' if name in positions else 'chosen by NNCF'
        result.kept.append(f'{_module(operator, module_of) or name} ({why})')
    return result


def _is_quantized(port: Any) -> bool:
    """Whether the values of an input are 8-bit: from weights, or from a FakeQuantize before it."""
    for _ in range(8):
        node = port.get_source_output().get_node()
        kind = node.get_type_name()
        if kind == 'FakeQuantize':
            return True
        if kind == 'Constant':
            return node.get_element_type().get_type_name() in ('i8', 'u8')
        if kind not in _CARRY_ON:
            return False
        port = node.inputs()[0]
    return False


def _module(operator: Any, module_of: Mapping[str, str]) -> str | None:
    """Name the module of an operator by its result, or by that of the bias after it."""
    for _ in range(3):
        for output in operator.outputs():
            for name in output.get_names():
                if name in module_of:
                    return module_of[name].removeprefix('model.')
        targets = [port.get_node() for output in operator.outputs() for port in output.get_target_inputs()]
        if len(targets) != 1:
            return None
        operator = targets[0]
    return None
