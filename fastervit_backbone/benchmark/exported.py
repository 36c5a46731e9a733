"""Exported files as candidates: of backbones, exported for the measurement, and of whole models."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..export.graph import BackboneGraph, Graph
from ..export.int8 import quantize_plainly
from ..export.write import write
from ..inference.exported_formats import weights_of
from ..inference.exported_info import info_path, read_info
from ..inference.session import open_session
from ..models.fastervit import FasterViT
from ..utils.errors import UserError

#: Ending of a candidate, without -int8 -> suffix of its file.
_SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml'}
#: Run in a process of its own: the memory that a file and its runtime add, MiB.
_MEMORY = """
import sys
import numpy as np
from pathlib import Path
from fastervit_backbone.inference.exported_formats import format_of
from fastervit_backbone.inference.session import open_session
path, shape, dtype, precision = Path(sys.argv[1]), eval(sys.argv[2]), sys.argv[3], sys.argv[4]
__import__(format_of(path).runtime)
status = Path('/proc/self/status')
def kib(name):
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))
before = kib('VmRSS')
Path('/proc/self/clear_refs').write_text('5')  # resets the peak
session = open_session(path, 'cpu', precision=precision)
session.run(np.zeros(shape, dtype))
print((kib('VmHWM') - before) / 1024)
"""


class ExportedStep:
    """One call of an exported file.

    Args:
        path: the file.
        shape: (B, H, W, channels) of the images.
        dtype: of the images.
        precision: 'fp32', or 'bf16' for OpenVINO.

    Attributes:
        size_mib: of the file, with its weights.
        accuracy: metrics of this very file, from its json; empty without.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str, precision: str) -> None:
        self._arguments = (str(path), str(shape), dtype, precision)
        self._session = open_session(path, 'cpu', precision=precision)
        self._images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
        self.size_mib, self.accuracy = weight_of(path), accuracy_of(path)

    def __call__(self) -> None:
        """Run the file once."""
        self._session.run(self._images)

    def peak_bytes(self) -> int | None:
        """Measure the memory that loading and running the file adds to a fresh process; None but on Linux."""
        if not Path('/proc/self/clear_refs').exists():
            return None
        command = [sys.executable, '-c', _MEMORY, *self._arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(float(done.stdout.split()[-1]) * 2**20)


def file_step(path: Path, size: tuple[int, int], batch: int, precision: str) -> ExportedStep:
    """Make the step of a file that ``fastervit export`` wrote.

    Raises:
        UserError: no such file, or one for other images.
    """
    info = read_info(path)
    given = info['size']
    if (given is not None and tuple(given) != size) or info['batch'] != batch:
        raise UserError(
            f'{path} takes {info["batch"]}x{given[0]}x{given[1]}, not {batch}x{size[0]}x{size[1]}: '
            'give --size and --batch as exported'
            if given is not None
            else f'{path} takes batches of {info["batch"]}: give it as --batch'
        )
    channels = info['preprocess'].get('channels', 3)
    return ExportedStep(path, (batch, *size, channels), info['dtype'], precision)


def backbone_graph(net: FasterViT, size: tuple[int, int]) -> Graph:
    """Make the module that exports a backbone for images of a size."""
    model = torch.nn.Module()
    model.backbone = net
    model.data_preprocessor = torch.nn.Module()
    model.data_preprocessor.mean = torch.full((net.in_chans,), 127.0)
    model.data_preprocessor.std = torch.full((net.in_chans,), 58.0)
    model.data_preprocessor.to_rgb = True
    return BackboneGraph(model, size)


def graph_step(
    graph: Graph, kind: str, size: tuple[int, int], batch: int, precision: str
) -> Callable[[], None]:
    """Export to a temporary file and make its step; 'openvino-int8' and 'onnx-int8' are calibrated on noise.

    Args:
        graph: the model.
        kind: ending of the candidate: 'onnx', 'openvino', and with '-int8'.
        size: (height, width).
        batch: images in a call.
        precision: 'fp32', or 'bf16' for OpenVINO.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'{graph.task}{_SUFFIXES[kind.removesuffix("-int8")]}'
        write(graph, path, batch=batch, dtype=torch.uint8, half=False, dynamic=False)
        shape = (batch, *size, graph.mean.numel())
        if kind.endswith('int8'):
            rng = np.random.default_rng(1)
            quantize_plainly(path, [rng.integers(0, 256, shape, np.uint8) for _ in range(4)])
        step = ExportedStep(path, shape, 'uint8', precision)
        memory = step.peak_bytes()
    step.peak_bytes = lambda: memory  # type: ignore[method-assign]
    return step


def weight_of(path: Path) -> float:
    """Return the size of a file with its weights, MiB."""
    return sum(p.stat().st_size for p in (path, weights_of(path)) if p.is_file()) / 2**20


def accuracy_of(path: Path) -> str:
    """Return the metrics that a file had when it was exported, for a table."""
    if not info_path(path).is_file():  # a file of this process
        return ''
    metrics = read_info(path)['parity'].get('metrics', {})
    return ', '.join(f'{name} {new:.3f}' for name, (_, new) in metrics.items())
