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
from .int8_graphs import GRAPHS, OnnxGraph, OpenVinoGraph, is_quantized, module_of, operators_of

#: Parts of the names of the last layers, which decide about classes and coordinates and stay in float.
LAST_LAYERS = tuple(
    'fc_cls fc_reg rpn_cls rpn_reg retina_cls retina_reg conv_logits conv_seg cls_branches reg_branches '
    'rtm_cls rtm_reg rtm_kernel rtm_obj cls_embed mask_embed '
    'sampling_offsets attention_weights ref_point_head model.head.'.split()
)
#: Position MLPs, where the size is not fixed and they are computed.
POSITIONS = ('.position.', '.bias.')


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
    """Quantize a file in place.

    ONNX gets QuantizeLinear and DequantizeLinear, which onnxruntime takes.

    Args:
        path: .xml or .onnx in float.
        exported: the file in float, for its way to prepare and convert.
        calibration: images (H, W, 3), BGR.
        layers: module -> name of its result in the file.
        worst_change: returns by how much the worst metric of a file changes, negative for a loss; None: there
            is no truth, accuracy is not controlled.
        most: loss of a metric that is accepted.
    """
    import nncf

    kind = GRAPHS[path.suffix]
    graph = kind.read(path)
    last, positions = (
        {*operators_of(graph, [t for name, t in layers.items() if any(part in name for part in parts)])}
        for parts in (LAST_LAYERS, POSITIONS)
    )
    ignored = nncf.IgnoredScope(names=sorted(last | positions))
    batches = [kind.item(_batch(exported, image)) for image in calibration]
    if worst_change is None:
        quantized = _run_nncf(nncf.quantize, graph.model, batches, ignored_scope=ignored)
    else:
        metric = worst_change

        def validate(model: Any, _: object) -> tuple[float, None]:
            clone = copy.copy(exported)
            clone.session = kind.session(model, exported.session)
            return 1 + metric(clone), None

        quantized = _run_nncf(
            nncf.quantize_with_accuracy_control,
            graph.model,
            batches,
            ignored_scope=ignored,
            validation_dataset=nncf.Dataset(batches[:1]),  # the function has its own images
            validation_fn=validate,
            max_drop=most,
            drop_type=nncf.DropType.ABSOLUTE,
        )
    del graph
    result = kind(quantized)
    report = _report(result, last, positions, layers)
    del quantized
    result.write(path)
    return report


def quantize_plainly(path: Path, batches: Sequence[np.ndarray]) -> None:
    """Quantize a file in place, without control of accuracy, for measurements of speed."""
    import nncf

    kind = GRAPHS[path.suffix]
    items = [kind.item(batch) for batch in batches]
    kind(_run_nncf(nncf.quantize, kind.read(path).model, items)).write(path)


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


def _batch(exported: ExportedModel, image: np.ndarray) -> np.ndarray:
    canvas, _ = exported.prepare(image)
    return np.concatenate([canvas[None]] * (exported.batch or 1)).astype(exported.info['dtype'])


def _report(
    graph: OpenVinoGraph | OnnxGraph, last: set[str], positions: set[str], layers: Mapping[str, str]
) -> Quantized:
    modules = {tensor: name for name, tensor in layers.items()}
    result = Quantized(products=0)
    for node in graph.nodes:
        if graph.kind(node) not in graph.products:
            continue
        result.products += 1
        if is_quantized(graph, node):
            continue
        name = graph.name(node)
        why = 'last layer' if name in last else 'position' if name in positions else 'chosen by NNCF'
        result.kept.append(f'{module_of(graph, node, modules) or name} ({why})')
    return result
