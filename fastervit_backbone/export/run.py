"""Export behind fastervit export: write, compare, accept or reject."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoints.model_folder import one_line
from ..datasets.images import read_image
from ..inference.exported import ExportedModel
from ..inference.exported_info import info_path, read_info, write_info
from ..inference.inputs import bits_of_config
from ..inference.load_model import load_model
from ..inference.sources import find_sources
from ..models.arch import STRIDES
from ..utils.errors import UserError
from ..utils.files import check_folder_writable, reporting_full_disk
from ..utils.log import log
from ..utils.trust import trusting_pickles
from .describe import describe
from .detectors import build_graph
from .first_difference import first_difference
from .graph import Graph
from .images import Images, read_images, score
from .parity import TOLERANCES, Parity, compare
from .reference import Reference
from .write import INSTALL, SUFFIXES, write

#: Images that INT8 is calibrated on, at most.
CALIBRATION = 300
#: Packages of each format and of 8 bits.
_PACKAGES = {
    'onnx': ('onnx', 'onnxscript', 'onnxruntime'),
    'openvino': ('onnx', 'onnxscript', 'openvino'),
    'torch-export': (),
}


class RejectedError(UserError):
    """An exported file differs from the model."""

    exit_code = 1


def export(
    config_path: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    format: str = 'onnx',
    size: tuple[int, int] | None = None,
    batch: int = 1,
    dynamic: bool = False,
    half: bool = False,
    float_input: bool = False,
    int8: str | Path | None = None,
    verify: str | Path | None = None,
    annotations: str | Path | None = None,
    backbone: bool = False,
    name: str | None = None,
    options: Mapping[str, object] | None = None,
) -> tuple[Path, Parity]:
    """Export a model to a file, with a json beside it, and compare both.

    Args:
        config_path: config that the model was trained with.
        checkpoint: file, URL, or a work dir (its last checkpoint).
        out: folder of the file.
        format: 'onnx', 'openvino' or 'torch-export'.
        size: (height, width) of the images.
        batch: images in a call.
        dynamic: images of any size, instead of ``size``.
        half: 16-bit floats.
        float_input: the file takes float32 images, 0..255, instead of uint8.
        int8: folder of images to calibrate 8-bit integers on ('openvino').
        verify: folder of images to compare on; None: generated ones.
        annotations: truth of these images, see :func:`~.images.read_images`.
        backbone: only the backbone.
        name: of the model, the start of the file's name; None: the config's.
        options: ``--cfg-options``.

    Returns:
        the file, and how it compares.

    Raises:
        UserError: bad input, or a model that cannot be exported.
        RejectedError: the file differs from the model; it is kept with ``.rejected`` after its name.
    """
    _check(format, size, batch, dynamic, half, int8, backbone)
    check_folder_writable('--out', out)
    with one_line(config_path):
        model, config, categories = load_model(config_path, checkpoint, options, 0.0)
        graph = build_graph(model, config, size, backbone=backbone)
    images = read_images(verify, annotations, graph.task, categories)
    images.bits = bits_of_config(config)
    log(f'exporting as {format}, then comparing with the model on {len(images)} {images.kind}')
    calibration = _calibration(int8, images.bits)
    reference = Reference(model, config, graph)
    suffix = SUFFIXES[format]
    name = _name(name or Path(config_path).stem, backbone, size, batch, half, int8 is not None)
    with reporting_full_disk(Path(out)), _temporary_folder(Path(out)) as folder:
        path = Path(folder) / f'{name}{suffix}'
        dtype = torch.float32 if float_input else torch.uint8
        written = write(graph, path, batch=batch, dtype=dtype, half=half, dynamic=dynamic)
        info = describe(config_path, config, graph, categories, batch, float_input) | dict(written, parity={})
        write_info(path, info)
        precision = 'float16' if half else 'float32'
        if int8 is not None:
            info |= _quantize(path, info, images, calibration)
            write_info(path, info)
            precision = 'int8'
        with trusting_pickles():  # a .pt2 of this process
            exported = ExportedModel(path, 'cpu', maps=backbone)
            parity = compare(exported, reference, images, precision)
            layer = _check_layers(parity, exported, graph, info['layers'], images)
        parity.float_layers = info.get('int8', {}).get('kept_in_float', [])
        write_info(path, info | dict(parity=asdict(parity)))
        del exported
        target = _move(Path(folder), Path(out), path.name, rejected=bool(parity.failures))
    _raise_failures(target, parity, layer)
    return target, parity


def _temporary_folder(out: Path) -> tempfile.TemporaryDirectory[str]:
    out.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix='.export', dir=out)


def check(
    path: str | Path,
    config_path: str | Path,
    checkpoint: str | Path,
    *,
    verify: str | Path | None = None,
    annotations: str | Path | None = None,
    options: Mapping[str, object] | None = None,
) -> Parity:
    """Compare an exported file with its model again.

    Raises:
        UserError: bad input.
        RejectedError: the file differs; it now has ``.rejected`` after its name.
    """
    path = Path(path)
    info = read_info(path)
    exported = ExportedModel(path, 'cpu', maps=True)
    model, config, categories = load_model(config_path, checkpoint, options, 0.0)
    graph = build_graph(model, config, exported.size, backbone=exported.task == 'backbone')
    if list(graph.outputs) != list(info['outputs']):
        raise UserError(f'{path} is a file of {info["config"]}, and {config_path} has other results')
    expected = describe(config_path, config, graph, categories, info['batch'], info['dtype'] == 'float32')
    for key in ('classes', 'preprocess', 'normalization'):
        if info[key] != expected[key]:
            raise UserError(f'{info_path(path)} has another {key} than {config_path} and its checkpoint')
    images = read_images(verify, annotations, graph.task, categories)
    images.bits = bits_of_config(config)
    precision = info['parity']['precision']
    parity = compare(exported, Reference(model, config, graph), images, precision)
    layer = _check_layers(parity, exported, graph, info['layers'], images)
    if parity.failures:
        del exported
        target = _move(path.parent, path.parent, path.name, rejected=True)
        _raise_failures(target, parity, layer)
    return parity


def _check_layers(
    parity: Parity, exported: ExportedModel, graph: Graph, layers: Mapping[str, str], images: Images
) -> str | None:
    """Name the first layer that differs; in float32 that is a failure by itself, whatever comes of it."""
    if parity.precision != 'float32' and not parity.failures:
        return None
    if exported.path.with_name(f'{exported.path.name}.data').is_file():
        return None  # more than 2 GB: ONNX Runtime cannot take a changed copy from memory
    # OpenVINO rounds inner results that it is asked for, though not what it computes from them (measured)
    factor = 500 if exported.path.suffix == '.xml' else 10
    limit = factor * TOLERANCES[parity.precision].arrays
    layer = first_difference(exported, graph, layers, images, limit)
    if layer is not None and not parity.failures:
        parity.failures.append('a layer differs, though the results on these images do not show it')
    return layer


def _check(
    format: str,
    size: tuple[int, int] | None,
    batch: int,
    dynamic: bool,
    half: bool,
    int8: object,
    backbone: bool,
) -> None:
    if format not in SUFFIXES:
        raise UserError(f'--format {format}: choose one of {", ".join(SUFFIXES)}')
    if (size is None) != dynamic:
        raise UserError('--size HEIGHTxWIDTH or --dynamic, one of them: what images does the file take?')
    if size is not None and min(size) < STRIDES[-1]:
        raise UserError(f'--size {size[0]}x{size[1]}: must be at least {STRIDES[-1]} pixels per side')
    if batch < 1:
        raise UserError(f'--batch {batch}: must be at least 1')
    if int8 is not None and (format != 'openvino' or half):
        raise UserError('--int8 writes OpenVINO files: use --format openvino, without --half')
    if int8 is not None and backbone:
        raise UserError('--int8 needs predictions to judge: export the whole model')
    packages = _PACKAGES[format] + ('nncf',) * (int8 is not None)
    missing = [p for p in packages if find_spec(p) is None]
    if missing:
        raise UserError(f'--format {format} needs {", ".join(missing)}: {INSTALL}')


def _calibration(folder: str | Path | None, bits: int | None) -> list[np.ndarray]:
    if folder is None:
        return []
    sources = [s for s in find_sources([folder]) if not s.is_video]
    if not sources:
        raise UserError(f'--int8 {folder}: no images to calibrate on')
    step = max(1, len(sources) // CALIBRATION)
    return [read_image(s.path, bits) for s in sources[::step][:CALIBRATION]]


def _quantize(
    path: Path, info: Mapping[str, Any], images: Images, calibration: list[np.ndarray]
) -> dict[str, Any]:
    from .int8 import quantize

    exported = ExportedModel(path, 'cpu')
    worst_change = None
    if images.truth is not None:

        def metrics(model: ExportedModel) -> dict[str, float]:
            return score(
                [model.infer(images.read([i]), 0.0, None)[0] for i in range(len(images))],
                images,
                exported.categories,
            )

        before = metrics(exported)

        def worst_change(model: ExportedModel) -> float:
            after = metrics(model)
            return min(after.get(name, 0.0) - value for name, value in before.items())

    most = TOLERANCES['int8'].metric
    result = quantize(path, exported, calibration, info['layers'], worst_change, most)
    quantized = dict(images=len(calibration), products=result.products, kept_in_float=result.kept)
    return dict(int8=quantized | dict(accuracy_controlled=worst_change is not None))


def _name(
    model: str, backbone: bool, size: tuple[int, int] | None, batch: int, half: bool, int8: bool
) -> str:
    parts = [model]
    parts += ['backbone'] * backbone
    parts += ['dynamic' if size is None else f'{size[0]}x{size[1]}']
    parts += [f'b{batch}'] * (batch > 1) + ['fp16'] * half + ['int8'] * int8
    return '_'.join(parts)


def _move(folder: Path, out: Path, name: str, *, rejected: bool) -> Path:
    """Move a file with its json and weights to ``out``; return its new path."""
    ending = '.rejected' if rejected else ''
    weights = [f'{Path(name).stem}.bin'] if name.endswith('.xml') else [f'{name}.data']
    for file in (name, f'{name}.json', *weights):
        if folder != out and not rejected:
            for old in (file, f'{file}.rejected'):  # of an earlier export
                (out / old).unlink(missing_ok=True)
        if (folder / file).is_file():
            shutil.move(folder / file, out / f'{file}{ending}')
    return out / f'{name}{ending}'


def _raise_failures(target: Path, parity: Parity, layer: str | None) -> None:
    if parity.failures:
        where = (
            f'; the first layer that differs: {layer}'
            if layer
            else '; all layers agree, so it is a step after them'
        )
        raise RejectedError(f'{target} differs from the model: {"; ".join(parity.failures)}{where}')
