"""The json beside an exported file: classes, size, and how images are prepared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..datasets.pixel_format import PixelFormat
from ..inference.exported_info import FORMAT
from ..inference.inputs import exact_resize, pixels_of_config
from ..inference.load_model import test_dataset
from ..structures.prediction import Categories
from ..utils.commit import current_commit
from ..utils.errors import UserError
from ..version import __version__
from .graph import Graph
from .write import BOUNDS


def describe(
    config_path: str | Path,
    config: Config,
    graph: Graph,
    categories: Categories,
    batch: int,
    float_input: bool,
) -> dict[str, Any]:
    """Describe a file for those who use it, without its layers, versions and parity.

    Args:
        config_path: of the config, for its name.
        config: of the model.
        graph: what is exported.
        categories: of the model.
        batch: images in a call.
        float_input: whether images are float32.
    """
    head, pixels = getattr(graph.model, 'decode_head', None), pixels_of_config(config)
    mean, std = (t.flatten().tolist() for t in (graph.mean, graph.std))
    if graph.is_bgr:
        mean, std = mean[::-1], std[::-1]
    return dict(
        format=FORMAT,
        task=graph.task,
        config=Path(config_path).stem,
        size=None if graph.size is None else list(graph.size),
        bounds=list(BOUNDS),
        batch=batch,
        dtype='float32' if float_input else 'uint8',
        layout='images: (batch, height, width, 3), RGB, 0..255; normalized inside'
        if pixels.is_color
        else f'images: (batch, height, width, {pixels.channels}), as in the files; normalized inside',
        normalization=dict(mean=mean, std=std),
        preprocess=_preprocess(config, graph, mean, pixels) | pixels.options(),
        outputs=list(graph.outputs),
        **graph.reading,
        align_corners=bool(getattr(head, 'align_corners', False)),
        classes=[dict(id=i, name=n) for i, n in zip(categories.ids, categories.names, strict=True)],
        own_category_ids=categories.own,
        fastervit_backbone=__version__,
        commit=current_commit(),
    )


def _preprocess(config: Config, graph: Graph, mean: list[float], pixels: PixelFormat) -> dict[str, Any]:
    """Describe what happens to an image before the file gets it.

    Raises:
        UserError: the config's test pipeline does what an exported file cannot.
    """
    steps = {step['type'].split('.')[-1]: step for step in test_dataset(config).get('pipeline') or ()}
    if graph.task == 'classification':
        assert graph.size is not None
        return _for_classifier(steps, graph.size, pixels)
    resize = steps.get('Resize')
    _refuse_others(steps, _KNOWN_DENSE)
    _check_resize(resize or {}, ('cv2',), ('bilinear',))
    pad: dict[str, Any] = dict(pad_value=[round(value) for value in mean] if pixels.is_color else mean)
    if 'ResizeToMultiple' in steps:
        pad['multiple'] = steps['ResizeToMultiple'].get('size_divisor', 32)
    stretch = resize is not None and not resize.get('keep_ratio', False)
    if graph.size is not None:
        return pad | dict(resize='stretch' if stretch else 'fit')
    if resize is None:
        return pad | dict(resize='none', scale=[BOUNDS[1], BOUNDS[1]])
    if 'scale' not in resize:
        raise UserError('--dynamic: the test pipeline resizes by a factor: set its scale=(width, height)')
    return pad | dict(resize='stretch' if stretch else 'edges', scale=list(_pair(resize['scale'])))


#: Steps of a detector's or segmenter's test pipeline that a file can repeat, or that change no pixel.
_KNOWN_DENSE = {
    *('LoadImageFromFile', 'LoadAnnotations', 'LoadPanopticAnnotations', 'Resize', 'ResizeToMultiple'),
    *('PackDetInputs', 'PackSegInputs'),
}


def _refuse_others(steps: Mapping[str, Mapping], known: set[str]) -> None:
    unknown = [name for name in steps if name not in known]
    if unknown:
        raise UserError(
            f'export repeats only {", ".join(sorted(known))}: leave {unknown[0]} out of the test pipeline'
        )


def _check_resize(step: Mapping, backends: Sequence[str], interpolations: Sequence[str]) -> dict[str, str]:
    """Return interpolation and backend of a step that resizes; UserError if a file cannot repeat them."""
    # the defaults of mmcv, mmdet, mmseg and mmpretrain
    interpolation, backend = step.get('interpolation', 'bilinear'), step.get('backend') or 'cv2'
    if backend not in backends or interpolation not in interpolations:
        raise UserError(
            f'export resizes with {" or ".join(backends)}, {" or ".join(interpolations)}, and the test '
            f'pipeline with {backend}, {interpolation}: change it'
        )
    return dict(interpolation=interpolation, backend=backend)


#: Steps of a classifier's test pipeline that a file can repeat, or that change no pixel.
_KNOWN = {'LoadImageFromFile', 'ResizeEdge', 'Resize', 'CenterCrop', 'PackInputs'}


def _for_classifier(
    steps: Mapping[str, Mapping], size: tuple[int, int], pixels: PixelFormat
) -> dict[str, Any]:
    """Describe resizing and cropping to ``size``; other than the config's, it is resized to directly.

    Raises:
        UserError: a step that an exported file cannot repeat.
    """
    _refuse_others(steps, _KNOWN)
    edge, resize, crop = steps.get('ResizeEdge'), steps.get('Resize'), steps.get('CenterCrop')
    how = edge or resize or {}
    cropped = _pair(crop['crop_size']) if crop else None
    scale = _pair(resize['scale'])[::-1] if resize and 'scale' in resize else None
    if (cropped or scale) != size or (edge and resize):  # as predict --size does it
        return dict(resize='exact', scale=list(size), crop=None, **exact_resize(pixels))
    options = _check_resize(how, ('cv2', 'pillow'), ('bilinear', 'bicubic'))
    if edge and edge.get('edge', 'short') != 'short':
        raise UserError(
            f'export resizes the short edge, and the test pipeline edge={edge["edge"]!r}: change it'
        )
    if resize and (resize.get('keep_ratio') or scale is None):
        given = 'keep_ratio=True' if resize.get('keep_ratio') else 'a scale_factor'
        raise UserError(
            'export of a classifier resizes to one size or by the short edge, and the test pipeline has '
            f'Resize with {given}: use ResizeEdge'
        )
    crop_size = None if cropped is None else list(cropped)
    if edge:
        return dict(resize='edge', edge=edge['scale'], crop=crop_size, **options)
    return dict(resize='exact', scale=list(scale or size), crop=crop_size, **options)


def _pair(value: object) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, list | tuple) else (value, value)  # type: ignore[return-value]
