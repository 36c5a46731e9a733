"""Results that the paper prints (arXiv 2306.06189, tables 1 to 4, 6, 7, S.5 and S.6), for comparison."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperResult:
    """A row of the paper, None for what it does not print.

    ``throughput`` is in images per second on its A100, ``gmacs`` is what the paper calls FLOPs.
    """

    table: str | None
    accuracy: str
    throughput: int | None = None
    gmacs: float | None = None
    box_ap: float | None = None


def _cascade(throughput: int, box_ap: float, mask_ap: float, table: str = '2') -> PaperResult:
    accuracy = f'box AP {box_ap}, mask AP {mask_ap}'
    return PaperResult(table=table, accuracy=accuracy, throughput=throughput, box_ap=box_ap)


def _upernet(throughput: int, gmacs: int | None, single: float | None, multi: float) -> PaperResult:
    first = f'{single}, ' if single else ''
    accuracy = f'mIoU {first}multi-scale {multi}'
    return PaperResult(table='4', accuracy=accuracy, throughput=throughput, gmacs=gmacs)


def _fpn(throughput: int, miou: float) -> PaperResult:
    return PaperResult(table='S.6', accuracy=f'mIoU {miou}', throughput=throughput)


def _imagenet(table: str, throughput: int, gmacs: float | None, top1: float) -> PaperResult:
    return PaperResult(table=table, accuracy=f'top-1 {top1}', throughput=throughput, gmacs=gmacs)


#: Rows of table 6: config without its window, and (images per second, top-1) with windows of 8, 12, 16, 24.
_HIGH_RESOLUTION = {
    'imagenet_fastervit2': ((2500, 84.3), (984, 85.3), (489, 85.5), (155, 85.6)),
    'imagenet_fastervit4': ((653, 85.3), (254, 86.0), (133, 86.1), (44, 86.0)),
    'imagenet_swinv2-t': ((1674, 81.8), (573, 83.2), (168, 83.8), (72, 84.2)),
    'imagenet_swinv2-s': ((633, 83.7), (338, 84.8), (153, 85.4)),
    'imagenet_swinv2-b': ((499, 84.2), (251, 85.1), (115, 85.6)),
}

#: By the name of the config.
PAPER_RESULTS = {
    'cascade_fastervit2_3x': _cascade(287, 52.1, 45.2),
    'cascade_fastervit3_3x': _cascade(159, 52.4, 45.4),
    'cascade_fastervit4_3x': _cascade(117, 52.9, 45.8),
    'cascade_swin-t_3x': _cascade(161, 50.4, 43.7),
    'cascade_deit-s_3x': _cascade(269, 48.0, 41.4),
    'cascade_x101-32x4d_3x': _cascade(124, 48.1, 41.6),
    'cascade_x101-64x4d_3x': _cascade(86, 48.3, 41.7),
    'cascade_swin-s_3x': _cascade(119, 51.9, 45.0),
    'cascade_swin-b_3x': _cascade(90, 51.9, 45.0),
    'cascade_convnext-t_3x': _cascade(166, 50.4, 43.7),
    'cascade_convnext-s_3x': _cascade(128, 51.9, 45.0),
    'cascade_convnext-b_3x': _cascade(101, 52.7, 45.6),
    'upernet_fastervit2_160k': _upernet(377, 974, 47.2, 48.4),
    'upernet_fastervit3_160k': _upernet(254, 1076, 48.7, 49.7),
    'upernet_fastervit4_160k': _upernet(202, 1290, 49.1, 50.3),
    'upernet_swin-t_160k': _upernet(350, 945, 44.5, 45.8),
    'upernet_twins-svt-b_160k': _upernet(204, None, 47.7, 48.9),
    'upernet_twins-svt-l_160k': _upernet(164, None, 48.8, 50.2),
    'cascade_swin-t-hat_3x': _cascade(150, 50.9, 44.3, '7'),
    'upernet_swin-t-hat_160k': PaperResult(table='7', accuracy='mIoU 45.4', throughput=338),
    'imagenet_swin-t-hat_300e': _imagenet('7', 2721, None, 81.7),
    'fpn_poolformer-s36_40k': _fpn(453, 42.0),
    'fpn_poolformer-m36_40k': _fpn(368, 42.4),
    'fpn_fastervit1_40k': _fpn(491, 42.7),
    'fpn_fastervit2_40k': _fpn(405, 43.5),
    'upernet_swin-s_160k': _upernet(219, 1038, 47.6, 49.5),
    'upernet_swin-b_160k': _upernet(172, 1188, 48.1, 49.7),
    'upernet_convnext-t_160k': _upernet(363, 939, None, 46.7),
    'upernet_convnext-s_160k': _upernet(234, 1027, None, 49.6),
    'upernet_convnext-b_160k': _upernet(189, 1170, None, 49.9),
    'imagenet_fastervit0_300e': _imagenet('1', 5802, 3.3, 82.1),
    'imagenet_fastervit1_300e': _imagenet('1', 4188, 5.3, 83.2),
    'imagenet_fastervit2_300e': _imagenet('1', 3161, 8.7, 84.2),
    'imagenet_fastervit3_300e': _imagenet('1', 1780, 18.2, 84.9),
    'imagenet_fastervit4_300e': _imagenet('1', 849, 36.6, 85.4),
    'imagenet_fastervit5_300e': _imagenet('1', 449, 113.0, 85.6),
    'imagenet_fastervit6_300e': _imagenet('1', 352, 142.0, 85.8),
    'imagenet_swin-t_300e': _imagenet('1', 2758, 4.4, 81.3),
    'imagenet_convnext-t_300e': _imagenet('1', 3196, 4.5, 82.0),
    'imagenet_fastervit4_21k_ft_60e': _imagenet('3', 849, 36.6, 86.6),
    **{
        f'{name}_w{window}': _imagenet('6', throughput, None, top1)
        for name, row in _HIGH_RESOLUTION.items()
        for window, (throughput, top1) in zip((8, 12, 16, 24), row, strict=False)
    },
    'dino_swin-l_36e': PaperResult('S.5', 'box AP 58.5', 71, 1285),
    'dino_fastervit4_21k_384_36e': PaperResult('S.5', 'box AP 58.7', 84, 1364),
}

_SIZES = ('tiny', 'small', 'base')
#: Model of fastervit benchmark -> config of the Cascade Mask R-CNN with that backbone.
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
#: Model of fastervit benchmark -> box AP with Cascade Mask R-CNN (table 2).
PAPER_BOX_AP = {model: PAPER_RESULTS[config].box_ap for model, config in _CASCADES.items()}
