"""What the paper prints (arXiv 2306.06189, tables 2 and 4, and its DINO result), to stand beside what is measured here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A row of the paper. Throughput is in images a second on its A100, GMACs what it calls FLOPs; None where it prints nothing."""

    table: str | None
    accuracy: str
    throughput: int | None = None
    gmacs: int | None = None
    box_ap: float | None = None


def _cascade(throughput: int, box: float, mask: float) -> Printed:
    return Printed('2', f'box AP {box}, mask AP {mask}', throughput, box_ap=box)


def _upernet(throughput: int, gmacs: int, single: float | None, multi: float) -> Printed:
    return Printed(
        '4', (f'mIoU {single}, ' if single else 'mIoU ') + f'multi-scale {multi}', throughput, gmacs
    )


#: By the name of the config.
PRINTED = {
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
    'dino_fastervit4_21k_384_36e': Printed(None, 'box AP 58.7'),
}

#: Box AP with Cascade Mask R-CNN (table 2) of what tools/benchmark.py calls a model.
BOX_AP_WITH = {f'fastervit:{i}': PRINTED[f'cascade_fastervit{i}_3x'].box_ap for i in (2, 3, 4)}
BOX_AP_WITH |= {f'published:{i}': PRINTED[f'cascade_fastervit{i}_3x'].box_ap for i in (2, 3, 4)}
for _size, _timm_size in (('t', 'tiny'), ('s', 'small'), ('b', 'base')):
    BOX_AP_WITH[f'timm:swin_{_timm_size}_patch4_window7_224'] = PRINTED[f'cascade_swin-{_size}_3x'].box_ap
    BOX_AP_WITH[f'timm:convnext_{_timm_size}'] = PRINTED[f'cascade_convnext-{_size}_3x'].box_ap
BOX_AP_WITH |= {
    f'configs/{"" if "fastervit" in k else "baselines/"}{k}.py': v.box_ap
    for k, v in PRINTED.items()
    if v.box_ap
}
