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

from ..checkpoints.model_folder import one_line, resolve_model
from ..datasets.images import read_image
from ..datasets.pixel_format import PixelFormat
from ..inference.exported import ExportedModel
from ..inference.exported_formats import FORMATS, weights_of
from ..inference.exported_info import info_path, read_info, write_info
from ..inference.inputs import pixels_of_config
from ..inference.load_model import load_model
from ..inference.sources import find_images, spread
from ..models.arch import STRIDES
from ..options import ExportOptions, resolve
from ..options.field import Place
from ..utils.errors import UserError
from ..utils.files import check_folder_writable, reporting_full_disk
from ..utils.log import log
from ..utils.trust import trusting_pickles
from .build import build_graph
from .describe import describe
from .first_difference import first_difference
from .graph import Graph
from .images import Images, read_images, score
from .parity import TOLERANCES, Parity, compare
from .proposals import limit_proposals
from .reference import Reference
from .write import INSTALL, write

#: Images that INT8 is calibrated on, at most.
CALIBRATION = 300


class RejectedError(UserError):
    """An exported file differs from the model."""

    exit_code = 1


def export(
    source: Place | ExportOptions | None = None,
    checkpoint: Place | None = None,
    out: Place | None = None,
    /,
    **options: Any,
) -> tuple[Path, Parity]:
    """Export a model to a file, with a json beside it, and compare both.

    Args:
        source: config that the model was trained with, a published folder, or all options.
        checkpoint: file, URL, or a work dir (its last checkpoint).
        out: folder of the file.
        options: of :class:`~fastervit_backbone.options.ExportOptions`: ``size``, ``format``, ...

    Returns:
        the file, and how it compares.

    Raises:
        TypeError: an option that does not exist.
        UserError: bad input, or a model that cannot be exported.
        RejectedError: the file differs from the model; it is kept with ``.rejected`` after its name.
    """
    o = _options(source, checkpoint, out, options)
    _check(o)
    assert o.out is not None
    out = Path(o.out)
    check_folder_writable('--out', out)
    config_path, weights = resolve_model(o.config, o.checkpoint)
    with one_line(config_path):
        model, cfg, categories = load_model(config_path, weights, o.options, 0.0)
        graph = build_graph(model, cfg, o.size, backbone=o.backbone, fixed=o.fixed)
    pixels = pixels_of_config(cfg)
    images = read_images(o.verify, o.annotations, graph.task, categories, pixels)
    log(f'exporting as {o.format}, then comparing with the model on {len(images)} {images.kind}')
    calibration = _calibration(o.int8, pixels)
    reference = Reference(model, cfg, graph)
    is_float = o.float_input or not pixels.is_color
    described = describe(config_path, cfg, graph, categories, o.batch, is_float)
    if o.proposals is not None:
        described['proposals'] = limit_proposals(o.proposals, reference, described, images, categories)
    with reporting_full_disk(out), _temporary_folder(out) as folder:
        path = Path(folder) / f'{_name(o)}{FORMATS[o.format].suffix}'
        dtype = torch.float32 if is_float else torch.uint8
        written = write(graph, path, batch=o.batch, dtype=dtype, half=o.half, dynamic=o.dynamic)
        info = described | dict(written, parity={})
        write_info(path, info)
        precision = 'float16' if o.half else 'float32'
        if o.int8 is not None:
            info |= _quantize(path, info, images, calibration, o.symmetric)
            write_info(path, info)
            precision = 'int8'
        with trusting_pickles():  # a .pt2 of this process
            exported = ExportedModel(path, 'cpu', maps=o.backbone)
            parity = compare(exported, reference, images, precision)
            layer = _check_layers(parity, exported, graph, info['layers'], images)
        parity.float_layers = info.get('int8', {}).get('kept_in_float', [])
        write_info(path, info | dict(parity=asdict(parity)))
        del exported
        target = _move(Path(folder), out, path.name, rejected=bool(parity.failures))
    _raise_failures(target, parity, layer)
    return target, parity


def _options(
    source: Place | ExportOptions | None, checkpoint: Place | None, out: Place | None, options: dict[str, Any]
) -> ExportOptions:
    positional = dict(checkpoint=checkpoint, out=out)
    given = {name: value for name, value in positional.items() if value is not None}
    return resolve(ExportOptions, source, given | options)


def _temporary_folder(out: Path) -> tempfile.TemporaryDirectory[str]:
    out.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix='.export', dir=out)


def check(
    source: Place | ExportOptions | None = None, checkpoint: Place | None = None, /, **options: Any
) -> Parity:
    """Compare the exported file ``check`` with its model again; for the arguments see :func:`export`.

    Raises:
        UserError: bad input.
        RejectedError: the file differs; it now has ``.rejected`` after its name.
    """
    o = _options(source, checkpoint, None, options)
    assert o.check is not None
    path, (config_path, weights) = Path(o.check), resolve_model(o.config, o.checkpoint)
    info = read_info(path)
    exported = ExportedModel(path, 'cpu', maps=True)
    model, cfg, categories = load_model(config_path, weights, o.options, 0.0)
    if 'proposals' in info:
        model.rpn_head.test_cfg.max_per_img = info['proposals']['number']
    graph = build_graph(model, cfg, exported.size, backbone=exported.task == 'backbone')
    if list(graph.outputs) != list(info['outputs']):
        raise UserError(f'{path} is a file of {info["config"]}, and {config_path} has other results')
    expected = describe(config_path, cfg, graph, categories, info['batch'], info['dtype'] == 'float32')
    for key in ('classes', 'preprocess', 'normalization'):
        if info[key] != expected[key]:
            raise UserError(f'{info_path(path)} has another {key} than {config_path} and its checkpoint')
    images = read_images(o.verify, o.annotations, graph.task, categories, pixels_of_config(cfg))
    precision = info['parity']['precision']
    parity = compare(exported, Reference(model, cfg, graph), images, precision)
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


def _check(o: ExportOptions) -> None:
    if o.format not in FORMATS:
        raise UserError(f'--format {o.format}: choose one of {", ".join(FORMATS)}')
    if o.out is None:
        raise UserError('--out DIR is required: where does the file go?')
    if (o.size is None) != o.dynamic:
        raise UserError('--size HEIGHTxWIDTH or --dynamic, one of them: what images does the file take?')
    if o.size is not None and min(o.size) < STRIDES[-1]:
        raise UserError(f'--size {o.size[0]}x{o.size[1]}: must be at least {STRIDES[-1]} pixels per side')
    if o.proposals is not None and o.backbone:
        raise UserError('--proposals is for a whole detector: leave out --backbone')
    if o.batch < 1:
        raise UserError(f'--batch {o.batch}: must be at least 1')
    if o.int8 is not None and (o.format == 'torch-export' or o.half):
        raise UserError('--int8 writes OpenVINO and ONNX files: use one of these, without --half')
    if o.int8 is not None and o.backbone:
        raise UserError('--int8 needs predictions to judge: export the whole model')
    if o.symmetric and (o.int8 is None or o.format != 'onnx'):
        raise UserError('--symmetric is for --int8 with --format onnx: leave it out')
    with_nncf = o.int8 is not None and o.format == 'openvino'
    packages = FORMATS[o.format].writers + ('nncf',) * with_nncf
    missing = [p for p in packages if find_spec(p) is None]
    if missing:
        raise UserError(f'--format {o.format} needs {", ".join(missing)}: {INSTALL}')


def _calibration(folder: str | Path | None, pixels: PixelFormat) -> list[np.ndarray]:
    if folder is None:
        return []
    sources = spread(find_images(folder), CALIBRATION)
    if not sources:
        raise UserError(f'--int8 {folder}: no images to calibrate on')
    return [read_image(s.path, pixels) for s in sources]


def _quantize(
    path: Path, info: Mapping[str, Any], images: Images, calibration: list[np.ndarray], symmetric: bool
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
    result = quantize(path, exported, calibration, info['layers'], worst_change, most, symmetric=symmetric)
    quantized = dict(images=len(calibration), products=result.products, kept_in_float=result.kept)
    return dict(int8=quantized | dict(accuracy_controlled=worst_change is not None))


def _name(o: ExportOptions) -> str:
    """Return the file's name without its ending; it starts with that of the config or published folder."""
    folder = Path(o.config).name or Path(o.config).resolve().name  # of a published model
    parts = [folder if o.checkpoint is None else Path(o.config).stem]
    parts += ['backbone'] * o.backbone
    parts += ['dynamic' if o.size is None else f'{o.size[0]}x{o.size[1]}']
    parts += [f'b{o.batch}'] * (o.batch > 1) + ['fp16'] * o.half + ['int8'] * (o.int8 is not None)
    parts += ['symmetric'] * o.symmetric
    return '_'.join(parts)


def _move(folder: Path, out: Path, name: str, *, rejected: bool) -> Path:
    """Move a file with its json and weights to ``out``; return its new path."""
    ending = '.rejected' if rejected else ''
    for file in (name, f'{name}.json', weights_of(Path(name)).name):
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
