"""Write a graph as ONNX, OpenVINO or torch.export."""

import ast
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._sympy.value_ranges import ValueRanges

from ..utils.errors import UserError
from .any_size import prepare_for_any_size
from .graph import Graph

#: How to get what export needs.
INSTALL = "pip install 'fastervit-backbone[mm,export]' (in a checkout: make setup)"
#: Sides of the images that a file for any size takes, pixels.
BOUNDS = (32, 4096)
#: Where sizes are symbols, the example must have no special ones: windows are padded, and no map's side is
#: twice that of the next.
_EXAMPLE = (353, 481)
#: Operators of :meth:`Graph.normalize`.
_OF_PIXELS = ('Cast', 'Transpose', 'Gather', 'Slice', 'Sub', 'Div', 'Mul', 'Concat', 'Identity')
#: Operators that keep float32 in a half-precision ONNX file: coordinates, and what has no half precision.
_FLOAT32_OPERATORS = (
    'NonMaxSuppression',
    'RoiAlign',
    'TopK',
    'Resize',
    'GatherND',
    'Softmax',
    'LayerNormalization',
)


def write(
    graph: Graph, path: Path, *, batch: int, dtype: torch.dtype, half: bool, dynamic: bool
) -> dict[str, Any]:
    """Write a file of the kind that the suffix of ``path`` names.

    Args:
        graph: what is exported; changed if ``dynamic``.
        path: .onnx, .xml or .pt2.
        batch: images in a call.
        dtype: of the images, uint8 or float32.
        half: 16-bit weights (OpenVINO) or weights and computation (ONNX).
        dynamic: images of any size within :data:`BOUNDS`.

    Returns:
        ``layers``: module -> name of its result in the file, and ``versions``.

    Raises:
        UserError: torch cannot export the model, or a package is missing.
    """
    if half and path.suffix == '.pt2':
        raise UserError('--half: torch-export keeps the dtype of the model: use onnx or openvino')
    if dynamic:
        prepare_for_any_size(graph)
    height, width = _EXAMPLE if dynamic else graph.size or _EXAMPLE
    images = torch.randint(256, (batch, height, width, graph.mean.numel()), dtype=torch.uint8).to(dtype)
    try:
        with _exportable(), torch.inference_mode(False), torch.no_grad():
            program = torch.export.export(graph, (images,), **_symbols(dynamic))
            if dynamic:
                _accept_any_size(program)
            if path.suffix == '.pt2':
                buffer = io.BytesIO()  # torch's own writer gives no reason when the disk is full
                torch.export.save(program, buffer)
                path.write_bytes(buffer.getbuffer())
                return dict(layers=_fx_layers(program), versions=_versions('torch', 'torchvision'))
            names: dict[str, Any] = dict(input_names=['images'], output_names=list(graph.outputs))
            onnx_program = torch.onnx.export(
                program, (images,), dynamo=True, optimize=False, verbose=False, **names
            )
            assert onnx_program is not None
            _simplify(onnx_program.model)
    except ModuleNotFoundError as error:
        raise UserError(f'export needs the package {error.name}: {INSTALL}') from error
    except (RuntimeError, torch._dynamo.exc.UserError, torch.onnx.errors.OnnxExporterError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f'torch cannot export this {graph.task} model ({reason[:200]})'
            + (': --backbone exports its backbone' if graph.task != 'backbone' else '')
        ) from error
    return dict(layers=_onnx_layers(onnx_program), versions=_save(onnx_program, path, half))


def _simplify(model: Any) -> None:
    """Compute constants once and leave out what is not used.

    torch's own optimization also searches for patterns, as every runtime does when it loads a file: it took
    half the time of an export, and the files were not faster.
    """
    import onnx_ir.passes
    from onnx_ir.passes import common
    from onnxscript import optimizer

    known = [(value.type, value.shape) for value in model.graph.outputs]
    common.InlinePass()(model)
    optimizer.fold_constants(model)
    onnx_ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
    # onnxruntime's quantizer names copies of val_9 val_91, val_92 and so on, which exist
    for value in list(model.graph.initializers.values()):
        if value.name.startswith('val_'):
            value.name = f'constant_{value.name.removeprefix("val_")}_'
    for value, (kind, shape) in zip(model.graph.outputs, known, strict=True):  # inlining forgets some
        value.type, value.shape = value.type or kind, value.shape or shape


def _save(onnx_program: torch.onnx.ONNXProgram, path: Path, half: bool) -> dict[str, str]:
    """Write the .onnx, or the .xml and .bin made of it; return the versions of the packages that wrote it."""
    written = path.suffix == '.onnx'
    onnx_file = path if written else path.with_name(f'.{path.stem}.onnx')
    try:
        onnx_program.save(onnx_file)
        if written and half:
            _halve(onnx_file)
        _check_onnx(onnx_file)
        if written:
            return _versions('torch', 'torchvision', 'onnx', 'onnxscript')
        _to_openvino(onnx_file, path, half)
    finally:
        if not written:
            for file in path.parent.glob(f'.{path.stem}.onnx*'):
                file.unlink()
    return _versions('torch', 'torchvision', 'onnx', 'openvino')


@contextmanager
def _exportable() -> Iterator[None]:
    """Attention as plain products, whose layout every exporter knows; quiet."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter('ignore')
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _symbols(dynamic: bool) -> dict[str, Any]:
    if not dynamic:
        return {}
    automatic = torch.export.Dim.AUTO  # type: ignore[attr-defined]
    # conditions on the symbols, such as "more than one window", concern strides only: the gate tries others
    return dict(
        dynamic_shapes=({1: automatic, 2: automatic},), prefer_deferred_runtime_asserts_over_guards=True
    )


def _accept_any_size(program: torch.export.ExportedProgram) -> None:
    """Remove conditions that the example met by chance, such as more than one window."""
    for symbol in program.range_constraints:
        program.range_constraints[symbol] = ValueRanges(*BOUNDS)
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}


def _onnx_layers(program: Any) -> dict[str, str]:
    """Map each module to the result of the last of its nodes, in the order in which they end."""
    last: dict[str, str] = {}
    for node in program.model.graph:
        scopes = node.metadata_props.get('pkg.torch.onnx.name_scopes')
        if not scopes or len(node.outputs) != 1:
            continue
        for scope in _scopes(scopes)[1:-1]:
            last.pop(scope, None)
            last[scope] = node.outputs[0].name
    return {scope: name for scope, name in last.items() if '@' not in scope}


def module_of(node: Any) -> str:
    """Return the module of the model that a node of an ONNX graph was made of; its own name if unknown."""
    properties = {entry.key: entry.value for entry in node.metadata_props}
    scopes = _scopes(properties.get('pkg.torch.onnx.name_scopes', '[]'))
    return scopes[-2] if len(scopes) > 2 else node.name


def _scopes(text: str) -> list[str]:
    return [str(item) for item in ast.literal_eval(text)]


def _fx_layers(program: torch.export.ExportedProgram) -> dict[str, str]:
    last: dict[str, str] = {}
    for node in program.graph.nodes:
        for scope, _ in (node.meta.get('nn_module_stack') or {}).values():
            if scope and isinstance(node.meta.get('val'), Tensor):
                last.pop(scope, None)
                last[scope] = node.name
    return {scope: name for scope, name in last.items() if '@' not in scope}


def _check_onnx(path: Path) -> None:
    import onnx

    onnx.checker.check_model(str(path))


def _halve(path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    blocked = sorted({*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATORS})
    loaded = onnx.load(path)
    model = OnnxModel(
        convert_float_to_float16(
            loaded,
            keep_io_types=True,
            op_block_list=blocked,
            node_block_list=[*_coordinates(loaded), *_normalization(loaded)],
        )
    )
    # the converter rounds what goes from one node that stays in float32 to the next, and widens it again
    casts = {n.output[0]: n.input[0] for n in model.model.graph.node if _is_cast(n, onnx.TensorProto.FLOAT16)}
    for node in model.model.graph.node:
        if _is_cast(node, onnx.TensorProto.FLOAT):
            node.input[0] = casts.get(node.input[0], node.input[0])
    model.prune_graph()
    model.topological_sort()
    onnx.save(model.model, path)


def _is_cast(node: Any, to: int) -> bool:
    return node.op_type == 'Cast' and any(a.name == 'to' and a.i == to for a in node.attribute)


def _coordinates(model: Any) -> list[str]:
    """Return the nodes that place regions on a map, whose coordinates 16 bits would round by cells."""
    makers = {result: node for node in model.graph.node for result in node.output}
    names: list[str] = []
    wanted = [node.input[1] for node in model.graph.node if node.op_type == 'RoiAlign']
    for _ in range(4):
        nodes = [makers[name] for name in wanted if name in makers]
        nodes = [node for node in nodes if node.op_type in ('Concat', 'Add', 'Mul', 'Tile')]
        names += [node.name for node in nodes]
        wanted = [name for node in nodes for name in node.input]
    return names


def _normalization(model: Any) -> list[str]:
    """Return the nodes between the images and what computes on them: 16 bits hold no pixels above 65504."""
    names, reached = [], {'images'}
    for node in model.graph.node:
        if reached & set(node.input) and node.op_type in _OF_PIXELS:
            names.append(node.name)
            reached |= set(node.output)
    return names


def _to_openvino(onnx_file: Path, path: Path, half: bool) -> None:
    try:
        import openvino as ov
    except ModuleNotFoundError as error:
        raise UserError(f'--format openvino needs the package openvino: {INSTALL}') from error
    model = ov.convert_model(onnx_file)
    ov.save_model(model, path, compress_to_fp16=half)
