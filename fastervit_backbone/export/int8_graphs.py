"""The same view of an OpenVINO and of an ONNX graph, for quantization."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..inference.session import Session


class OpenVinoGraph:
    """An OpenVINO model."""

    products = ('Convolution', 'GroupConvolution', 'MatMul', 'ConvolutionBackpropData')
    constant = 'Constant'
    #: Operators that only move values, or scale weights.
    carry_on = tuple(
        'Transpose Reshape Convert Multiply Subtract Slice StridedSlice Gather Split VariadicSplit Squeeze '
        'Unsqueeze Pad Concat MaxPool'.split()
    )

    def __init__(self, model: Any) -> None:
        self.model, self.nodes = model, model.get_ops()

    @classmethod
    def read(cls, path: Path) -> 'OpenVinoGraph':
        """Read a file."""
        import openvino as ov

        return cls(ov.Core().read_model(path))

    def write(self, path: Path) -> None:
        """Write the model over the file that it was read from."""
        import openvino as ov

        target = path.with_name(f'int8_{path.name}')
        ov.save_model(self.model, target, compress_to_fp16=False)
        self.model = self.nodes = None  # it maps the file that is replaced
        for file in (target, target.with_suffix('.bin')):
            file.replace(file.with_name(file.name.removeprefix('int8_')))

    @staticmethod
    def item(images: np.ndarray) -> Any:
        """Return what NNCF feeds the model for images (B, H, W, 3)."""
        return images

    @staticmethod
    def session(compiled: Any, like: Session) -> Session:
        """Return a session of what NNCF validates: a compiled model."""
        return _Running(lambda images: list(compiled(images).values()), like)

    def kind(self, node: Any) -> str:
        """Return the type of a node."""
        return node.get_type_name()

    def name(self, node: Any) -> str:
        """Return the name that NNCF knows a node by."""
        return node.get_friendly_name()

    def results(self, node: Any) -> set[str]:
        """Return the names of the results of a node."""
        return {name for port in node.outputs() for name in port.get_names()}

    def sources(self, node: Any) -> list[Any]:
        """Return the nodes that make the inputs of a node; in ONNX None for constants."""
        return [port.get_source_output().get_node() for port in node.inputs()]

    def targets(self, node: Any) -> list[Any]:
        """Return the nodes that read the results of a node."""
        return [target.get_node() for port in node.outputs() for target in port.get_target_inputs()]

    def is_8_bit(self, node: Any) -> bool:
        """Whether a node's result are 8-bit integers, or floats made of them."""
        kind = node.get_type_name()
        return kind == 'FakeQuantize' or (
            kind == 'Constant' and node.get_element_type().get_type_name() in ('i8', 'u8')
        )


class OnnxGraph:
    """An ONNX model, which gets QuantizeLinear and DequantizeLinear around its products."""

    products = ('Conv', 'MatMul', 'Gemm', 'ConvTranspose')
    constant = ''
    #: Operators that only move values, or scale weights.
    carry_on = tuple(
        'Transpose Reshape Cast Mul Sub Slice Gather Split Squeeze Unsqueeze Pad Concat MaxPool'.split()
    )

    def __init__(self, model: Any) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        self._makers = {result: node for node in self.nodes for result in node.output}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for result in node.input:
                self._readers[result].append(node)

    @classmethod
    def read(cls, path: Path) -> 'OnnxGraph':
        """Read a file."""
        import onnx

        return cls(onnx.load(path))

    def write(self, path: Path) -> None:
        """Write the model over the file that it was read from."""
        import onnx

        onnx.checker.check_model(self.model)
        onnx.save(self.model, path)

    @staticmethod
    def item(images: np.ndarray) -> Any:
        """Return what NNCF feeds the model for images (B, H, W, 3)."""
        return {'images': images}

    @staticmethod
    def session(model: Any, like: Session) -> Session:
        """Return a session of what NNCF validates: a model."""
        import onnxruntime as ort

        running = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
        return _Running(lambda images: running.run(None, {'images': images}), like)

    def kind(self, node: Any) -> str:
        """Return the type of a node."""
        return '' if node is None else node.op_type

    def name(self, node: Any) -> str:
        """Return the name that NNCF knows a node by."""
        return node.name

    def results(self, node: Any) -> set[str]:
        """Return the names of the results of a node."""
        return set(node.output)

    def sources(self, node: Any) -> list[Any]:
        """Return the nodes that make the inputs of a node; in ONNX None for constants."""
        return [self._makers.get(result) for result in node.input]

    def targets(self, node: Any) -> list[Any]:
        """Return the nodes that read the results of a node."""
        return [reader for result in node.output for reader in self._readers[result]]

    def is_8_bit(self, node: Any) -> bool:
        """Whether a node's result are 8-bit integers, or floats made of them."""
        return self.kind(node) == 'DequantizeLinear'


#: Suffix of a file -> its view.
GRAPHS: dict[str, type[OpenVinoGraph] | type[OnnxGraph]] = {'.xml': OpenVinoGraph, '.onnx': OnnxGraph}


class _Running:
    """A model in memory as a session."""

    def __init__(self, run: Any, like: Session) -> None:
        self.device, self.inputs, self.outputs = like.device, like.inputs, like.outputs
        self.shapes, self.dtype = like.shapes, like.dtype
        self._run = run

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the results of images (B, H, W, 3)."""
        return self._run(images)


def operators_of(graph: OpenVinoGraph | OnnxGraph, tensors: Sequence[str]) -> list[str]:
    """Return the names of the convolutions and products that make the named results, bias or not."""
    wanted, names = set(tensors), []
    for node in graph.nodes:
        if not wanted & graph.results(node):
            continue
        for _ in range(4):  # through the bias and reshapes
            if graph.kind(node) in graph.products:
                names.append(graph.name(node))
                break
            inner = [n for n in graph.sources(node) if graph.kind(n) != graph.constant]
            if not inner:
                break
            node = inner[0]
    return names


def is_quantized(graph: OpenVinoGraph | OnnxGraph, node: Any) -> bool:
    """Whether a convolution or product reads 8-bit values, from weights or from a quantizer before it."""
    return any(_reads_8_bits(graph, source) for source in graph.sources(node))


def _reads_8_bits(graph: OpenVinoGraph | OnnxGraph, node: Any) -> bool:
    for _ in range(8):
        if graph.is_8_bit(node):
            return True
        if graph.kind(node) not in graph.carry_on:
            return False
        node = graph.sources(node)[0]
    return False


def module_of(graph: OpenVinoGraph | OnnxGraph, node: Any, modules: dict[str, str]) -> str | None:
    """Name the module of an operator by its result, or by that of the bias after it.

    Args:
        graph: of the operator.
        node: the operator.
        modules: name of a result -> module.
    """
    for _ in range(3):
        found = [modules[name] for name in graph.results(node) if name in modules]
        if found:
            return found[0].removeprefix('model.')
        targets = graph.targets(node)
        if len(targets) != 1:
            return None
        node = targets[0]
    return None
