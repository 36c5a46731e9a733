"""Formats of exported files, a row each: what writes them, what runs them, where their weights are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        suffix: of the file.
        runtime: package that runs it.
        writers: packages that writing and comparing it needs, beside torch.
        weights: name of the file beside it, of ``{name}`` or ``{stem}``, for weights that are not inside.
        always_apart: whether weights are never inside.
    """

    suffix: str
    runtime: str
    writers: tuple[str, ...]
    weights: str = '{name}.data'
    always_apart: bool = False


#: ``export --format`` -> its row.
FORMATS = {
    'onnx': Format('.onnx', 'onnxruntime', ('onnx', 'onnxscript', 'onnxruntime')),
    'openvino': Format('.xml', 'openvino', ('onnx', 'onnxscript', 'openvino'), '{stem}.bin', True),
    'torch-export': Format('.pt2', 'torch', ()),
}


def is_exported(path: str | Path) -> bool:
    """Return whether a name is that of an exported file."""
    return any(Path(path).suffix == row.suffix for row in FORMATS.values())


def format_of(path: Path) -> Format:
    """Return the format of an exported file by its suffix."""
    return next(row for row in FORMATS.values() if row.suffix == path.suffix)


def weights_of(path: Path) -> Path:
    """Return the file beside an exported one that has its weights, where they are apart."""
    return path.with_name(format_of(path).weights.format(name=path.name, stem=path.stem))
