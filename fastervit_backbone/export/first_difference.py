"""Find the first layer whose result in a file differs from the model."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from ..inference.exported import ExportedModel
from ..inference.session import open_session
from .graph import Graph
from .images import Images
from .reference import layers_of

#: Difference of a layer that is rounding, however small its values: what it is computed from is about 1.
_NOISE = 1e-5


#: Modules of a detector that run after a choice (proposals, queries): among equal ones it may differ.
_AFTER_CHOICES = ('roi_head', 'box_', 'mask_', 'decoder', 'bbox_head.')


def first_difference(
    exported: ExportedModel, graph: Graph, layers: Mapping[str, str], images: Images, tolerance: float
) -> str | None:
    """Name the first layer whose result in the file differs from the graph's, of one batch.

    Layers after a choice among proposals or queries are left out, and those that run several times.

    Args:
        exported: the file.
        graph: that it was exported from.
        layers: name of a module -> name of its result in the file.
        images: the first ones are used.
        tolerance: largest difference, as a fraction of the largest value.

    Returns:
        the layer and its difference; None if all agree.
    """
    count = exported.batch or 1
    pixels = images.read(
        [i % len(images) for i in range(count)] if exported.size is not None else [0] * count
    )
    batch = np.stack([exported.prepare(image)[0] for image in pixels])
    before = [n for n in layers if graph.task != 'detection' or not any(part in n for part in _AFTER_CHOICES)]
    if exported.path.suffix == '.xml':  # OpenVINO merges both, under the name of the first
        normalized = _normalized_convolutions(graph)
        before = [name for name in before if name not in normalized]
    expected = layers_of(graph, torch.from_numpy(batch).to(_dtype(exported)), before)
    names = [name for name in before if name in expected]
    found = _inner_results(exported, batch, [layers[name] for name in names])
    for name in names:
        value = found.get(layers[name])
        if value is None or value.shape != expected[name].shape:
            continue
        top = float(np.abs(expected[name]).max())
        difference = float(np.abs(value.astype(np.float64) - expected[name]).max())
        if not difference <= tolerance * top + _NOISE:
            return f'{name.removeprefix("model.")} (by {difference / (top or 1.0):.1e} of its largest value)'
    return None


def _normalized_convolutions(graph: Graph) -> set[str]:
    """Return the names of the convolutions whose next sibling is a batch norm, whose result is compared."""
    names: set[str] = set()
    for parent_name, parent in graph.named_modules():
        for (name, child), (_, following) in pairwise(parent.named_children()):
            if isinstance(child, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                names.add(f'{parent_name}.{name}')
    return names


def _dtype(exported: ExportedModel) -> torch.dtype:
    return torch.float32 if exported.info['dtype'] == 'float32' else torch.uint8


def _inner_results(exported: ExportedModel, batch: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    session = open_session(exported.path, extra_outputs=list(dict.fromkeys(names)))
    values = session.run(batch.astype(exported.info['dtype']))
    return dict(zip(session.outputs, values, strict=True))
