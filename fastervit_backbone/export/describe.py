"""The json beside an exported file: classes, size, and how images are prepared."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..apis.exported import FORMAT
from ..apis.load_model import test_dataset
from ..structures.prediction import Categories
from ..utils.commit import current_commit
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
    head = getattr(graph.model, 'decode_head', None)
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
        layout='images: (batch, height, width, 3), RGB, 0..255; normalized inside',
        normalization=dict(mean=mean, std=std),
        preprocess=_preprocess(config, graph, mean),
        outputs=list(graph.outputs),
        align_corners=bool(getattr(head, 'align_corners', False)),
        classes=[dict(id=i, name=n) for i, n in zip(categories.ids, categories.names, strict=True)],
        own_category_ids=categories.own,
        fastervit_backbone=__version__,
        commit=current_commit(),
    )


def _preprocess(config: Config, graph: Graph, mean: list[float]) -> dict[str, Any]:
    """Describe what happens to an image before the file gets it."""
    steps = {step['type']: step for step in test_dataset(config).get('pipeline') or ()}
    if graph.task == 'classification':
        size = list(graph.size or (224, 224))
        edge, crop = steps.get('ResizeEdge'), steps.get('CenterCrop')
        filters = (edge or steps.get('Resize') or {}).get('interpolation', 'bicubic')
        crops = crop and (
            crop['crop_size'] if isinstance(crop['crop_size'], list | tuple) else [crop['crop_size']] * 2
        )
        if edge and crops and list(crops) == size:
            return dict(resize='edge', edge=edge['scale'], crop=size, interpolation=filters)
        return dict(resize='exact', crop=size, interpolation=filters)
    pad = [round(value) for value in mean]
    if graph.size is not None:
        return dict(resize='fit', pad_value=pad)
    resize = next((step for kind, step in steps.items() if kind.endswith('Resize') and 'scale' in step), None)
    if resize is None:
        return dict(resize='none', scale=[BOUNDS[1], BOUNDS[1]])
    return dict(resize='edges', scale=list(resize['scale']))
