"""Options of ``fastervit predict``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .field import Place, Size, cfg_options, option


@dataclass(frozen=True)
class PredictOptions:
    """Which model predicts on what, and what is written; see ``fastervit predict --help``."""

    config: Place = option(
        help='config of the model, an exported file, or a published folder', positional=True
    )
    checkpoint: Place | None = option(
        None,
        help='checkpoint file or URL, or a work dir (its last checkpoint); none if CONFIG is no config',
        positional=True,
    )
    sources: Place | Sequence[Place] = option(
        (), help='image, folder, pattern in quotes, or video', positional=True, metavar='SOURCE'
    )
    out: Place = option('', help='output folder', metavar='DIR', required=True, group='results')
    device: str | None = option(None, help='cpu, cuda or cuda:1 (default: cuda if available)')
    size: Size | None = option(None, help="fit images into this size (default: the config's)", metavar='HxW')
    options: Mapping[str, object] | None = cfg_options()
    annotations: Place | None = option(
        None,
        help='predict on the images of this COCO json, with its ids; SOURCE is their folder (default: the '
        'folder of the json)',
        metavar='JSON',
    )
    batch: int | None = option(None, help="images per batch (default: 1, or an exported file's)")
    amp: bool = option(False, help='mixed precision')
    deploy: bool = option(False, help='deploy mode: a faster backbone, same results up to rounding')
    compile: bool = option(False, help='torch.compile the backbone (needs a C++ compiler)')
    tile: int | None = option(None, help='split larger images into overlapping tiles', metavar='PIXELS')
    overlap: float = option(0.2, help='overlap of tiles, as a fraction of their side (default: 0.2)')
    save: Sequence[str] = option(
        (),
        help='also predictions.csv, yolo/ with a label file for each image and data.yaml, polygons.json '
        '(COCO, exact to the pixel), or labelme/ with a json for each image',
        choices=['csv', 'yolo', 'polygons', 'labelme'],
        group='results',
    )
    threshold: float = option(
        0.3, help='lowest score, 0 to 1 (default: 0.3; for evaluation use 0)', group='results'
    )
    classes: Sequence[str] | None = option(
        None, help='only these classes (default: all)', metavar='NAME', group='results'
    )
    draw: bool = option(True, help='write no annotated pictures and videos', group='results')
    overwrite: bool = option(False, help='replace existing results in --out', group='results')
    engine: str | None = option(None, help='ray: several processes as actors of Ray', choices=['ray'])
    actors: int | None = option(None, help='their number, with --engine ray (default: 2)', metavar='N')
