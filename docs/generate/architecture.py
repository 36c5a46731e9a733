"""Draw the pictures of docs/architecture.md: a HAT stage, its attention pattern, and what attention costs.

Example: python docs/generate/architecture.py
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from fastervit_backbone import ARCHS, ArchSpec
from fastervit_backbone.benchmark.complexity import backbone_flops
from fastervit_backbone.models.layers.carrier import pooling_windows
from fastervit_backbone.models.stages import AttentionStage
from fastervit_backbone.utils.files import replacing
from fastervit_backbone.visualization.figures import new_figure, to_png
from fastervit_backbone.visualization.palette import OKABE_ITO
from fastervit_cli.console import run_cli
from fastervit_cli.options import parse_strictly
from fastervit_paper.variants import EdgeVitStage, TwinsStage

DOCS = Path(__file__).resolve().parent.parent
#: The stage that is drawn: windows, tokens and carriers along a window's side, windows of the map.
WINDOW, CARRIERS, ROWS, COLUMNS = 5, 2, 2, 3
#: Sides of square images whose cost is counted, in pixels.
SIDES = (224, 448, 896, 1792, 3584, 7168)


def draw_stage() -> bytes:
    """Draw the map, its windows, where the carriers are pooled, and the sequences that attention sees."""
    figure, (tokens, pooling, joined) = new_figure((11, 3.4), 1, 3)
    height, width = ROWS * WINDOW, COLUMNS * WINDOW
    colors = [OKABE_ITO[name] for name in ('blue', 'orange', 'green', 'vermilion', 'purple', 'sky_blue')]
    for panel in (tokens, pooling):
        panel.set(xlim=(-0.6, width - 0.4), ylim=(height - 0.4, -0.6), aspect='equal')
        panel.axis('off')
        for row in range(height):
            for column in range(width):
                color = colors[row // WINDOW * COLUMNS + column // WINDOW]
                panel.add_patch(_square(column, row, 0.42, color, 0.35 if panel is tokens else 0.12))
    tokens.set_title(f'1  map of {height}x{width} tokens in windows of {WINDOW}x{WINDOW}', fontsize=9)
    pooling.set_title(f'2  {CARRIERS}x{CARRIERS} carriers of a window average overlapping areas', fontsize=9)
    (y, kernel), (x, _) = (pooling_windows(n, WINDOW, CARRIERS) for n in (ROWS, COLUMNS))
    for i, top in enumerate(y.tolist()):
        for j, left in enumerate(x.tolist()):
            color = colors[i // CARRIERS * COLUMNS + j // CARRIERS]
            center = (left + (kernel - 1) / 2, top + (kernel - 1) / 2)
            pooling.plot(*center, marker='o', color=color, markersize=8, markeredgecolor='black')
            if i < CARRIERS and j < CARRIERS:
                pooling.add_patch(_square(*center, kernel / 2, color, None))
    joined.set(xlim=(-0.6, CARRIERS**2 + WINDOW**2 + 1), ylim=(ROWS * COLUMNS + 0.9, -1), aspect='auto')
    joined.set_title('3  one sequence per window', fontsize=9)
    joined.axis('off')
    for window in range(ROWS * COLUMNS):
        for i in range(CARRIERS**2):
            joined.plot(i, window, marker='o', color=colors[window], markersize=8, markeredgecolor='black')
        for i in range(WINDOW**2):
            joined.add_patch(_square(CARRIERS**2 + 0.6 + i, window, 0.42, colors[window], 0.35))
    joined.annotate(
        'carriers of all windows\nattend to each other',
        (1.5, ROWS * COLUMNS - 0.5),
        (1.5, ROWS * COLUMNS + 0.5),
        ha='center',
        va='top',
        fontsize=8,
    )
    joined.text(18, ROWS * COLUMNS, 'then each row attends within itself', ha='center', va='top', fontsize=8)
    return to_png(figure, dpi=110)


def draw_pattern() -> bytes:
    """Draw which token can reach which in a block of windows and in one of HAT (figure 5)."""
    stage = replace(ARCHS['nano'], window_sizes=(7, 7, WINDOW, 7), carrier_size=CARRIERS, depths=(1, 1, 1, 1))
    kinds = {
        'windows': replace(stage, hat=(False,) * 4),
        'HAT: windows and carriers': stage,
    }
    figure, panels = new_figure((7.5, 4), 1, 2)
    for panel, (title, spec) in zip(panels, kinds.items(), strict=True):
        panel.imshow(reach(spec), cmap='Greys', vmin=0, vmax=1)
        panel.set(title=title, xlabel='token that is looked at', ylabel='token that looks')
    return to_png(figure, dpi=110)


def reach(spec: ArchSpec) -> np.ndarray:
    """Compute which input tokens change which output tokens of a stage, by gradients.

    Returns:
        (N, N) of 0, 0.4 (through carriers) and 1 (in the same window), tokens in the order of their windows.
    """
    torch.manual_seed(0)
    net = _stage(AttentionStage, spec).double()
    height, width = ROWS * WINDOW, COLUMNS * WINDOW

    def tokens(x: Tensor) -> Tensor:  # (1, C, H, W) -> (N, C), window by window
        x = x[0].reshape(-1, ROWS, WINDOW, COLUMNS, WINDOW).permute(1, 3, 2, 4, 0)
        return x.reshape(height * width, -1)

    x = torch.randn(1, spec.channels[2], height, width, dtype=torch.float64, requires_grad=True)
    out = tokens(net(x))
    rows = [tokens(torch.autograd.grad(o.sum(), x, retain_graph=True)[0]).abs().sum(-1) > 0 for o in out]
    reached = torch.stack(rows).double().numpy()
    window = np.arange(height * width) // WINDOW**2
    same = window[:, None] == window[None]
    return np.where(same, reached, 0.4 * reached)


def draw_cost() -> bytes:
    """Plot the multiply-adds per pixel of stage 3 of FasterViT-0, counted, by image size and attention."""
    spec = ARCHS['0']
    none = (False,) * 4
    without, higher = replace(spec, hat=none), replace(spec, carrier_window=32)
    kinds: dict[str, tuple[type[nn.Module], ArchSpec, str]] = {
        'HAT': (AttentionStage, spec, 'blue'),
        'HAT, carriers of higher order (carrier_window=32)': (AttentionStage, higher, 'green'),
        'windows only': (AttentionStage, without, 'sky_blue'),
        'Twins': (TwinsStage, without, 'orange'),
        'EdgeViT': (EdgeVitStage, without, 'vermilion'),
    }
    figure, axes = new_figure((8, 4.6))
    for name, (kind, variant, color) in kinds.items():
        axes.plot(
            SIDES, _per_pixel(kind, variant), marker='o', markersize=4, label=name, color=OKABE_ITO[color]
        )
    full = [full_attention(spec, side) for side in SIDES]
    axes.plot(SIDES, full, linestyle='--', color='black', label='full attention')
    axes.set(xscale='log', yscale='log', xlabel='side of the image, pixels')
    axes.set(ylabel='multiply-adds per pixel, stage 3 of FasterViT-0')
    axes.set_xticks(SIDES, [str(side) for side in SIDES])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return to_png(figure, dpi=110)


def full_attention(spec: ArchSpec, side: int) -> float:
    """Multiply-adds per pixel of stage 3 if every token attended to all: 12 C*C + 2 N C per token."""
    tokens, channels, depth = (side // 16) ** 2, spec.channels[2], spec.depths[2]
    return depth * tokens * (12 * channels**2 + 2 * tokens * channels) / side**2


def _per_pixel(kind: type[nn.Module], spec: ArchSpec) -> list[float]:
    def count(side: int) -> float:
        with torch.device('meta'):
            net = _Stage(kind, spec)
        return backbone_flops(net, (side, side)) / 2 / side**2

    return [count(side) for side in SIDES]


class _Stage(nn.Module):
    """Stage 3 behind an image: what it gets is made of the image's size."""

    def __init__(self, kind: type[nn.Module], spec: ArchSpec) -> None:
        super().__init__()
        self.channels, self.stage = spec.channels[2], _stage(kind, spec)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        height, width = (side // 16 for side in images.shape[2:])
        return (self.stage(images.new_empty(1, self.channels, height, width)),)


def _stage(kind: type[nn.Module], spec: ArchSpec) -> nn.Module:
    return kind(spec, 2, (0.0,) * spec.depths[2], False, False).eval()


def _square(x: float, y: float, half: float, color: str, alpha: float | None) -> Rectangle:
    corner, side = (x - half, y - half), 2 * half
    if alpha is None:
        return Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=1.6)
    return Rectangle(corner, side, side, facecolor=color, alpha=alpha)


PICTURES: dict[str, Callable[[], bytes]] = {
    'hat_stage': draw_stage,
    'hat_pattern': draw_pattern,
    'hat_cost': draw_cost,
}


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=DOCS / 'architecture', metavar='DIR')
    args = parse_strictly(parser)
    for name, draw in PICTURES.items():
        path = args.out / f'{name}.png'
        with replacing(path) as temporary:
            temporary.write_bytes(draw())
        print(f'written: {path}')


if __name__ == '__main__':
    run_cli(main)
