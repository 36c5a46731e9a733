"""Run an exported file with onnxruntime, OpenVINO or torch, on arrays."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..utils.errors import UserError
from ..utils.trust import pickles_are_trusted
from .exported_formats import format_of

#: Device -> providers of onnxruntime, the first that is there.
_PROVIDERS = dict(
    cpu=('CPUExecutionProvider',),
    cuda=('CUDAExecutionProvider',),
    tensorrt=('TensorrtExecutionProvider', 'NvTensorRTRTXExecutionProvider'),
)


class Session(Protocol):
    """A loaded file.

    Attributes:
        inputs: name of each input.
        outputs: name of each result, in order.
        shapes: of inputs and results, by name, with None where the file leaves a side open.
        dtype: of the images, 'uint8' or 'float32'.
        device: where it runs.
    """

    inputs: list[str]
    outputs: list[str]
    shapes: dict[str, tuple[int | None, ...]]
    dtype: str
    device: str

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the results of images (B, H, W, channels)."""


def open_session(
    path: Path, device: str | None = None, extra_outputs: Sequence[str] = (), precision: str = 'fp32'
) -> Session:
    """Load a file.

    Args:
        path: .onnx, .xml (OpenVINO) or .pt2 (torch.export).
        device: 'cpu', 'cuda' or, for .onnx, 'tensorrt'; None: CUDA where onnxruntime has it, else the CPU.
        extra_outputs: names of inner results that :meth:`Session.run` returns after the others.
        precision: 'fp32', or 'bf16' where OpenVINO may round to it.

    Raises:
        UserError: a missing package, device or file, or a file that cannot be loaded.
    """
    kinds: dict[str, type[_OnnxSession | _OpenVinoSession | _TorchSession]] = {
        'onnxruntime': _OnnxSession,
        'openvino': _OpenVinoSession,
        'torch': _TorchSession,
    }
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    if device is not None and not re.fullmatch(r'cpu|(cuda|tensorrt)(:\d+)?', device):
        raise UserError(f'device {device}: expected cpu, cuda, cuda:NUMBER or tensorrt')
    try:
        return kinds[format_of(path).runtime](path, device, extra_outputs, precision)
    except ModuleNotFoundError as error:
        raise UserError(f'{path} needs the package {error.name}: pip install {error.name}') from error
    except UserError:
        raise
    except Exception as error:  # each runtime has exceptions of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise UserError(f'{path} cannot be loaded ({reason}): export it again') from error


class _OnnxSession:
    def __init__(self, path: Path, device: str | None, extra_outputs: Sequence[str], precision: str) -> None:
        _only_float32(path, precision)
        import onnxruntime as ort

        ort.set_default_logger_severity(3)
        there = ort.get_available_providers()
        asked = device is not None
        if device is None:
            device = 'cuda' if 'CUDAExecutionProvider' in there else 'cpu'
        found = [p for p in _PROVIDERS.get(device.split(':')[0], ()) if p in there]
        if not found:
            raise UserError(
                f'device {device}: onnxruntime has {", ".join(there)} here: use cpu, or install '
                'onnxruntime-gpu for cuda and tensorrt'
            )
        options = ort.SessionOptions()
        if 'OMP_NUM_THREADS' in os.environ:  # what --threads sets; onnxruntime does not read it
            options.intra_op_num_threads = int(os.environ['OMP_NUM_THREADS'])
        model: str | bytes = str(path)
        if extra_outputs:
            import onnx

            content = onnx.load(path)
            content.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra_outputs)
            model = content.SerializeToString()
        number = int(device.partition(':')[2] or 0)
        provider = found[0] if device == 'cpu' else (found[0], dict(device_id=number))
        self._session = ort.InferenceSession(
            model, options, [provider, 'CPUExecutionProvider'][: 1 + (device != 'cpu')]
        )
        if self._session.get_providers()[0] != found[0]:  # onnxruntime went on without it
            if asked:
                raise UserError(f'device {device}: onnxruntime cannot start {found[0]} here: use cpu')
            device = 'cpu'
        self.device = device
        self.inputs = [i.name for i in self._session.get_inputs()]
        self.outputs = [o.name for o in self._session.get_outputs()]
        ports = [*self._session.get_inputs(), *self._session.get_outputs()]
        self.shapes = {p.name: tuple(n if isinstance(n, int) else None for n in p.shape) for p in ports}
        types = {'tensor(uint8)': 'uint8', 'tensor(float)': 'float32'}
        self.dtype = types.get(ports[0].type, ports[0].type)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, {self.inputs[0]: images})


class _OpenVinoSession:
    def __init__(self, path: Path, device: str | None, extra_outputs: Sequence[str], precision: str) -> None:
        import openvino as ov

        if device not in (None, 'cpu'):
            raise UserError(f'device {device}: OpenVINO files run on the cpu here')
        core = ov.Core()
        model = core.read_model(path)
        number = len(model.outputs)
        there = {
            name for operator in model.get_ops() for port in operator.outputs() for name in port.get_names()
        }
        extra_outputs = [name for name in extra_outputs if name in there]  # others were folded away
        for name in extra_outputs:
            model.add_outputs(name)
        # exact float32: the default lets the processor round to bfloat16
        config = {'INFERENCE_PRECISION_HINT': dict(fp32='f32', bf16='bf16')[precision]}
        if 'OMP_NUM_THREADS' in os.environ:
            config['INFERENCE_NUM_THREADS'] = os.environ['OMP_NUM_THREADS']
        self._compiled = core.compile_model(model, 'CPU', config)
        self.device = 'cpu'
        self.inputs = [_name(port) for port in self._compiled.inputs]
        self._ports = self._compiled.outputs[:number]
        self.outputs = [_name(port) for port in self._ports] + extra_outputs
        ports = [*self._compiled.inputs, *self._ports]
        self.shapes = {
            _name(p): tuple(n.get_length() if n.is_static else None for n in p.partial_shape) for p in ports
        }
        types = dict(u8='uint8', f32='float32')
        name = ports[0].element_type.get_type_name()
        self.dtype = types.get(name, name)
        self._ports += [self._compiled.output(name) for name in extra_outputs]  # two names can be of one port

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        results = self._compiled(images)
        return [results[port] for port in self._ports]


class _TorchSession:
    def __init__(self, path: Path, device: str | None, extra_outputs: Sequence[str], precision: str) -> None:
        _only_float32(path, precision)
        import torch
        import torchvision  # noqa: F401 - registers operators that the file uses

        if device not in (None, 'cpu'):
            raise UserError(f'device {device}: torch.export files run on the cpu they were exported on')
        if not pickles_are_trusted():
            raise UserError(f'{path} can hold code that loading runs: --trust-pickle, for your own files')
        program = torch.export.load(path)
        self._torch, self._module, self._extra = torch, program.module(), list(extra_outputs)
        self.device = 'cpu'
        self.shapes: dict[str, tuple[int | None, ...]] = {}  # it names none
        self.dtype = ''
        signature = program.graph_signature
        self.inputs = [str(name) for name in signature.user_inputs]
        self.outputs = [f'output{i}' for i in range(len(signature.user_outputs))] + self._extra

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        with self._torch.inference_mode():
            if self._extra:
                return self._run_with_extras(images)
            results = self._module(self._torch.from_numpy(images))
        return [result.numpy() for result in results]

    def _run_with_extras(self, images: np.ndarray) -> list[np.ndarray]:
        torch, wanted = self._torch, set(self._extra)
        seen: dict[str, np.ndarray] = {}

        class Recorder(torch.fx.Interpreter):  # type: ignore[name-defined, misc]
            def run_node(self, node: 'torch.fx.Node') -> object:  # type: ignore[name-defined]
                value = super().run_node(node)
                if node.name in wanted:
                    seen[node.name] = value.clone().numpy()
                return value

        results = Recorder(self._module).run(torch.from_numpy(images))
        return [result.numpy() for result in results] + [seen[name] for name in self._extra]


def _only_float32(path: Path, precision: str) -> None:
    if precision != 'fp32':
        raise UserError(f'{path}: {precision} is for OpenVINO files only')


def _name(port: object) -> str:
    names = port.get_names()  # type: ignore[attr-defined]
    return min(names, key=len) if names else '?'
