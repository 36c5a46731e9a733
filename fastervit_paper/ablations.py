"""Cost of every row of the paper's ablations, tables S.1, S.4, S.7, 5 and 7, and of proposed improvements."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fastervit_backbone.benchmark.complexity import backbone_flops, count_parameters
from fastervit_backbone.benchmark.setting import Setting
from fastervit_backbone.benchmark.throughput import Timing, compare_steps, describe_machine
from fastervit_backbone.checkpoints.declared import FIELDS
from fastervit_backbone.models.arch import ARCHS, NUM_STAGES, ArchSpec
from fastervit_backbone.models.fastervit import FasterViT
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import replacing
from fastervit_backbone.visualization.figures import new_figure, to_png
from fastervit_backbone.visualization.palette import OKABE_ITO

from .components import ablate
from .variants import FasterViTVariant

_NO_HAT = (False,) * NUM_STAGES


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: what differs from the table's first row of the same arch.
        arch: of FasterViT.
        changes: fields of its spec, or arguments of :class:`FasterViTVariant`, that differ.
        removed: component that is removed (:func:`~fastervit_paper.components.ablate`), or ''.
        paper: throughput in the paper over that of the first row, or None.
        paper_gmacs: multiply-adds in the paper, or None.
    """

    name: str
    arch: str
    changes: tuple[tuple[str, object], ...] = ()
    removed: str = ''
    paper: float | None = 1.0
    paper_gmacs: float | None = None

    def build(self) -> FasterViT:
        """Build the backbone."""
        changes = dict(self.changes)
        fields_of_spec = {k: changes.pop(k) for k in list(changes) if k in FIELDS}
        spec: ArchSpec = replace(ARCHS[self.arch], **fields_of_spec)
        net = FasterViTVariant(spec, out_norm=None, **changes).eval()
        return ablate(net, self.removed) if self.removed else net


def _window_14() -> tuple[tuple[str, object], ...]:
    return (('hat', _NO_HAT), ('window_sizes', (7, 7, 14, 7)))


def _s7(arch: str, base: float, without: float) -> list[Row]:
    return [
        Row('with convolutions', arch),
        Row('attention in stages 1 and 2', arch, (('conv', _NO_HAT),), paper=without / base),
    ]


def _table_5(arch: str, twins: tuple, edgevit: tuple, hat: tuple) -> list[Row]:
    rows = [Row('HAT', arch, paper_gmacs=hat[0])]
    for name, (gmacs, throughput) in (('twins', twins), ('edgevit', edgevit)):
        changes = (('attention', name), ('hat', _NO_HAT))
        rows.append(Row(name, arch, changes, paper=throughput / hat[1], paper_gmacs=gmacs))
    return rows


#: Title of a table -> groups of rows, each compared with its first.
TABLES: dict[str, list[list[Row]]] = {
    'S.1': [
        [
            Row('whole', '0'),
            Row('HAT block removed', '0', removed='hat', paper=1.08),
            Row('attention between carriers removed', '0', removed='carrier_attention'),
            Row('attention bias removed', '0', removed='bias'),
            Row('carriers pooled and propagated in every block', '0', removed='propagation', paper=0.93),
            Row('position removed', '0', removed='position'),
            Row("carriers' convolution removed", '0', removed='carrier_conv'),
            Row('windows of 14 instead of carriers', '0', _window_14(), paper=0.9),
        ]
    ],
    'S.4': [
        [
            Row('window 7, carriers 2', '2'),
            Row('window 7, carrier 1', '2', (('carrier_size', 1),), paper=1.05),
            Row('window 7, carriers 9', '2', (('carrier_size', 9),), paper=0.47),
            Row('window 14, no carriers', '2', _window_14(), paper=0.9),
        ]
    ],
    'S.7': [
        _s7(arch, *throughput)
        for arch, throughput in (
            ('0', (5802, 3616)),
            ('1', (4188, 3280)),
            ('2', (3161, 2085)),
            ('3', (1780, 1397)),
            ('4', (849, 712)),
        )
    ],
    '5': [
        _table_5('0', (3.0, 6896), (3.2, 5928), (3.3, 5802)),
        _table_5('1', (4.7, 4949), (4.8, 4188), (5.3, 4344)),
        _table_5('2', (8.0, 3668), (8.5, 3127), (8.7, 3161)),
    ],
    '7': [
        [
            Row('Swin-T, without shifts', 'swin_t_hat', (('hat', _NO_HAT),)),
            Row('HAT in every second block', 'swin_t_hat', paper=2721 / 2758),
            Row('HAT in every block of stage 3', 'swin_t_hat_stage3', paper=2721 / 2758),
        ]
    ],
    'improvements': [
        [
            Row('base', '0'),
            Row("carriers' convolution 5x5", '0', (('carrier_kernel', 5),), paper=None),
            Row(
                "carriers' convolution 5x5, dense",
                '0',
                (('carrier_kernel', 5), ('carrier_conv', 'dense')),
                paper=None,
            ),
            Row('windows overlap by 1 token', '0', (('window_overlap', 1),), paper=None),
            Row('gate of carriers', '0', (('carrier_gate', True),), paper=None),
            Row('hybrid stem', '0', (('hybrid_stem', True),), paper=None),
        ]
    ],
}

_HEADER = (
    '| arch | | parameters, M | GMACs | paper: GMACs | ratio here | paper: ratio |\n'
    '|---|---|---|---|---|---|---|\n'
)


def measure_tables(
    tables: Sequence[str], setting: Setting, rounds: int, out: str | Path | None, command: str
) -> str:
    """Measure the rows of some tables, print each table, and write a page with a picture.

    Args:
        tables: names in :data:`TABLES`.
        setting: image size and batch.
        rounds: turns of each model; all of a group run by turns in one process.
        out: ``.md`` file to write, with a ``.png`` beside it; None writes nothing.
        command: that makes the page.

    Returns:
        the page.

    Raises:
        UserError: no such table.
    """
    unknown = [name for name in tables if name not in TABLES]
    if unknown:
        raise UserError(f'no table {unknown[0]!r}: choose of {", ".join(TABLES)}')
    machine = describe_machine(setting.device)
    height, width = setting.size
    versions = f'{machine["threads"]} threads, torch {machine["torch"]}, commit {machine["commit"]}'
    text = (
        f'# Ablations\n\nWritten by `{command}`: {machine["device"]}, {versions}. Backbones in eval mode, '
        f'{setting.batch} x 3 x {height} x {width}, {setting.dtype}; the rows of an arch ran by turns in one '
        'process. A ratio is the speed over that of the first row of the group, here (median, quartiles) and '
        'in the paper (on its A100, at batch 128). Table 7 of the paper has one row with HAT, and its Swin-T '
        'shifts windows. Multiply-adds are counted at 224x224, without classifier; '
        'the paper prints two digits.\n\n'
        'The components are removed by `fastervit_paper/components.py`, the variants are fields of '
        '`ArchSpec` or of `FasterViTVariant` ([backbone.md](backbone.md#ablations)); no accuracy '
        'of a row was measured here (`fastervit train` trains any).\n'
    )
    print(text)
    bars: list[tuple[str, float, float | None]] = []
    for name in tables:
        block = f'\n## {_title(name)}\n\n{_HEADER}'
        for group in TABLES[name]:
            for row, timing in zip(group, _measure(group, setting, rounds), strict=True):
                block += _line(row, timing)
                if row is not group[0]:
                    bars.append((f'{name}: {row.arch}, {row.name}', timing.ratio, row.paper))
        print(block, flush=True)
        text += block
    if out is not None:
        picture = Path(out).with_suffix('.png')
        text += f'\n![throughput ratios here and in the paper]({picture.name})\n'
        with replacing(picture) as temporary:
            temporary.write_bytes(_chart(bars))
        with replacing(Path(out)) as temporary:
            temporary.write_text(text)
    return text


def _title(name: str) -> str:
    return 'Improvements that others proposed' if name == 'improvements' else f'Table {name}'


def _measure(group: Sequence[Row], setting: Setting, rounds: int) -> list[Timing]:
    images = torch.randn(setting.batch, 3, *setting.size, device=setting.device)
    nets = [row.build().to(setting.device) for row in group]

    def step(net: FasterViT) -> None:
        with torch.inference_mode(), setting.autocast():
            net(images)

    steps = {row.name: (lambda net=net: step(net)) for row, net in zip(group, nets, strict=True)}
    return compare_steps(steps, setting, rounds)


def _line(row: Row, timing: Timing) -> str:
    with torch.device('meta'):  # enough to count
        net = row.build()
    gmacs = backbone_flops(net, (224, 224)) / 2e9
    paper = '' if row.paper_gmacs is None else f'{row.paper_gmacs} ({gmacs / row.paper_gmacs - 1:+.0%})'
    ratio = '' if row.paper is None else f'{row.paper:.2f}'
    return (
        f'| {row.arch} | {row.name} | {count_parameters(net) / 1e6:.1f} | {gmacs:.2f} | {paper} '
        f'| **{timing.ratio:.2f}** ({timing.ratio_low:.2f}-{timing.ratio_high:.2f}) | {ratio} |\n'
    )


def _chart(bars: Sequence[tuple[str, float, float | None]]) -> bytes:
    figure, axes = new_figure((8, 0.32 * len(bars) + 1.4))
    names = [name for name, _, _ in bars]
    positions = range(len(bars))
    axes.barh([p - 0.2 for p in positions], [b[1] for b in bars], 0.38, label='here', color=OKABE_ITO['blue'])
    axes.barh(
        [p + 0.2 for p in positions],
        [b[2] or 0 for b in bars],
        0.38,
        label='paper',
        color=OKABE_ITO['orange'],
    )
    axes.set_yticks(positions, names, fontsize=8)
    axes.axvline(1, color='black', linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel='speed over that of the whole model')
    axes.legend(loc='upper center', bbox_to_anchor=(0.5, 1.04), ncols=2)
    return to_png(figure, dpi=110)
