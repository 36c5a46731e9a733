"""Which module exports a model."""

from typing import Any

from mmengine.config import Config

from ..inference.inputs import pixels_of_config
from ..recipes import graphs
from ..utils.errors import UserError
from .detectors import DenseGraph, DetectorGraph, DinoGraph, TwoStageGraph
from .graph import BackboneGraph, ClassifierGraph, Graph, SegmenterGraph
from .mask2former import Mask2FormerGraph, Mask2FormerSegmenterGraph
from .rtmdet import RtmdetGraph

#: Name in a recipe -> graph of a detector; classifiers and segmenters are known by their toolkit.
_GRAPHS: dict[str, type[DetectorGraph]] = {
    graph.__name__: graph for graph in (DenseGraph, TwoStageGraph, DinoGraph, RtmdetGraph, Mask2FormerGraph)
}


def build_graph(
    model: Any, config: Config, size: tuple[int, int] | None, *, backbone: bool, fixed: bool = False
) -> Graph:
    """Build the module to export.

    Args:
        model: with its weights.
        config: of the model.
        size: (height, width); None for any.
        backbone: only the backbone.
        fixed: only fixed shapes inside; see :class:`TwoStageGraph`.

    Raises:
        UserError: a model that cannot be exported, or one that needs a size.
    """
    graph = _build(model, config, size, backbone, fixed)
    if not pixels_of_config(config).is_color:
        graph.is_bgr = False  # channels have one order everywhere
    return graph


def _build(model: Any, config: Config, size: tuple[int, int] | None, backbone: bool, fixed: bool) -> Graph:
    if fixed and (backbone or config.get('default_scope') != 'mmdet'):
        raise UserError('--fixed is for detectors with regions: leave it out')
    if backbone:
        return BackboneGraph(model, size)
    scope = config.get('default_scope')
    if scope == 'mmpretrain':
        return ClassifierGraph(model, size)
    if scope == 'mmseg':
        queries = type(model.decode_head).__name__ == 'Mask2FormerHead'
        return (Mask2FormerSegmenterGraph if queries else SegmenterGraph)(model, size)
    name = type(model).__name__
    known = graphs()
    if name not in known:
        raise UserError(f'export knows no {name}: it knows {", ".join(known)}, or --backbone')
    kind = _GRAPHS[known[name]]
    if fixed and kind is not TwoStageGraph:
        raise UserError(f'--fixed: a {name} has only fixed shapes, leave it out')
    graph = TwoStageGraph(model, size, fixed) if kind is TwoStageGraph else kind(model, size)
    if size is None:
        graph.check_any_size()
    return graph
