"""Results printed in the paper (arXiv 2306.06189, tables 2 and 4, and its DINO result), for comparison."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperResult:
    """A row of the paper, None for what it does not print.

    ``throughput`` is in images per second on its A100, ``gmacs`` is what the paper calls FLOPs.
    """

    table: str | None
    accuracy: str
    throughput: int | None = None
    gmacs: int | None = None
    box_ap: float | None = None


def _cascade(throughput: int, box_ap: float, mask_ap: float) -> PaperResult:
    accuracy = f'box AP {box_ap}, mask AP {mask_ap}'
    return PaperResult(table='2', accuracy=accuracy, throughput=throughput, box_ap=box_ap)


def _upernet(throughput: int, gmacs: int, single_scale: float | None, multi_scale: float) -> PaperResult:
    single = f'{single_scale}, ' if single_scale else ''
    accuracy = f'mIoU {single}multi-scale {multi_scale}'
    return PaperResult(table='4', accuracy=accuracy, throughput=throughput, gmacs=gmacs)


#: By the name of the config.
PAPER_RESULTS = {
    'cascade_fastervit2_3x': _cascade(287, 52.1, 45.2),
    'cascade_fastervit3_3x': _cascade(159, 52.4, 45.4),
    'cascade_fastervit4_3x': _cascade(117, 52.9, 45.8),
    'cascade_swin-t_3x': _cascade(161, 50.4, 43.7),
    'cascade_swin-s_3x': _cascade(119, 51.9, 45.0),
    'cascade_swin-b_3x': _cascade(90, 51.9, 45.0),
    'cascade_convnext-t_3x': _cascade(166, 50.4, 43.7),
    'cascade_convnext-s_3x': _cascade(128, 51.9, 45.0),
    'cascade_convnext-b_3x': _cascade(101, 52.7, 45.6),
    'upernet_fastervit2_160k': _upernet(377, 974, 47.2, 48.4),
    'upernet_fastervit3_160k': _upernet(254, 1076, 48.7, 49.7),
    'upernet_fastervit4_160k': _upernet(202, 1290, 49.1, 50.3),
    'upernet_swin-t_160k': _upernet(350, 945, 44.5, 45.8),
    'upernet_swin-s_160k': _upernet(219, 1038, 47.6, 49.5),
    'upernet_swin-b_160k': _upernet(172, 1188, 48.1, 49.7),
    'upernet_convnext-t_160k': _upernet(363, 939, None, 46.7),
    'upernet_convnext-s_160k': _upernet(234, 1027, None, 49.6),
    'upernet_convnext-b_160k': _upernet(189, 1170, None, 49.9),
    'dino_fastervit4_21k_384_36e': PaperResult(table=None, accuracy='box AP 58.7'),
}

_SIZES = ('tiny', 'small', 'base')
#: Model of tools/benchmark.py -> config of the Cascade Mask R-CNN with that backbone.
_CASCADES = {
    **{f'fastervit:{arch}': f'cascade_fastervit{arch}_3x' for arch in (2, 3, 4)},
    **{f'published:{arch}': f'cascade_fastervit{arch}_3x' for arch in (2, 3, 4)},
    **{f'timm:swin_{size}_patch4_window7_224': f'cascade_swin-{size[0]}_3x' for size in _SIZES},
    **{f'timm:convnext_{size}': f'cascade_convnext-{size[0]}_3x' for size in _SIZES},
    **{f'configs/cascade_fastervit{arch}_3x.py': f'cascade_fastervit{arch}_3x' for arch in (2, 3, 4)},
    **{
        f'configs/baselines/cascade_{name}-{size[0]}_3x.py': f'cascade_{name}-{size[0]}_3x'
        for name in ('swin', 'convnext')
        for size in _SIZES
    },
}
#: Model of tools/benchmark.py -> box AP with Cascade Mask R-CNN (table 2).
PAPER_BOX_AP = {model: PAPER_RESULTS[config].box_ap for model, config in _CASCADES.items()}
