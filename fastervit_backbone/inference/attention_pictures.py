"""Pictures of attention drawn over an image, as in figures S.1 and S.3 of the paper."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..datasets.images import read_image
from ..models.fastervit import FasterViT
from ..utils.errors import UserError
from ..utils.files import replacing
from ..visualization.attention_maps import AttentionMaps, attention_maps, find_block
from ..visualization.figures import new_figure, to_png
from .predictor import Predictor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def visualize(
    predictor: Predictor,
    image: str | Path,
    out: str | Path,
    *,
    query: tuple[float, float] | None = None,
    stage: int = 3,
    block: int = -1,
) -> list[str]:
    """Draw the attention of one position of an image, and its position biases.

    Args:
        predictor: the model, with a FasterViT backbone.
        image: image file.
        out: output folder for ``attention_*.png`` and ``bias_*.png``.
        query: (y, x) in pixels of the image; None: its center.
        stage: 3 or 4.
        block: index in the stage, from 0; negative values count from the end.

    Returns:
        messages for the user.

    Raises:
        UserError: the backbone is no FasterViT, the query is outside the image, or there is no such block.
    """
    net = check_backbone(predictor.model.backbone)
    find_block(net, stage, block)
    pixels = read_image(image, predictor.pixels)
    H, W = pixels.shape[:2]
    y, x = query or (H / 2, W / 2)
    if not (0 <= y < H and 0 <= x < W):
        raise UserError(f'--query {y:g} {x:g}: {image} has {H} rows and {W} columns')
    prepared, size = predictor.prepare(pixels)
    maps = attention_maps(net, prepared, (y * size[0] / H, x * size[1] / W), stage=stage, block=block)

    index = block % len(net.stages[stage - 1].blocks)
    suffix = f'{Path(image).stem}_stage{stage}_block{index}.png'
    title = f'{Path(image).name}, stage {stage}, block {index}'
    rgb = np.ascontiguousarray(predictor.pixels.picture(pixels)[..., ::-1])
    paths = [
        draw_attention(rgb, maps, size, 2 ** (stage + 1), Path(out) / f'attention_{suffix}', title),
        draw_bias(maps, Path(out) / f'bias_{suffix}', f'position bias, {title}'),
    ]
    summary = f'{maps.tokens.mean(0).sum():.1%} of the attention stays in the window'
    if maps.carriers is not None:
        summary += f', {maps.carriers.mean(0).sum():.1%} goes to its {maps.carriers[0].numel()} carriers'
    return [
        summary,
        f"recomputed outputs differ from the model's by {maps.deviation:.1g}",
        *(f'written: {path}' for path in paths),
    ]


def check_backbone(net: nn.Module) -> FasterViT:
    """Return the backbone, if it is a FasterViT, else raise UserError."""
    if not isinstance(net, FasterViT):
        raise UserError(f'the backbone is {type(net).__name__}: attention can be drawn only for a FasterViT')
    return net


def draw_attention(
    pixels: np.ndarray, maps: AttentionMaps, size: tuple[int, int], stride: int, out: Path, title: str
) -> Path:
    """Draw the attention of a query: to its window, to all carriers, both combined, and by head.

    Args:
        pixels: the image (H, W, 3), uint8, RGB.
        maps: attention of one query in the image.
        size: (height, width) of the image as the backbone saw it, without padding.
        stride: pixels of that size per token.
        out: output picture.
        title: title of the figure.

    Returns:
        ``out``.
    """
    heads, has_carriers = len(maps.tokens), maps.carriers is not None
    columns = max(4 if has_carriers else 2, min(heads, 8))
    head_rows = -(-heads // columns)
    H, W = pixels.shape[:2]
    panel_height = 3 * H / W
    inches = (3 * columns, panel_height + 0.6 + (panel_height + 0.3) * head_rows)
    figure, panels = new_figure(inches, 1 + head_rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.axis('off')
    padded_size = (maps.grid[0] * stride, maps.grid[1] * stride)  # windows may have been padded
    scale = (H / size[0], W / size[1])

    def overlay(panel: 'Axes', values: torch.Tensor, name: str) -> None:
        """Draw ``values``, (rows, columns) of the padded map, over the image."""
        # (rows, columns) -> padded size -> size without padding -> (H, W)
        large = F.interpolate(values[None, None], size=padded_size, mode='nearest')[..., : size[0], : size[1]]
        heat = F.interpolate(large, size=(H, W), mode='nearest')[0, 0].numpy()
        panel.imshow(pixels)
        low, high = float(heat.min()), max(float(heat.max()), 1e-12)
        panel.imshow(heat, cmap='inferno', alpha=0.6, vmin=low, vmax=high)
        _mark_query(panel, maps, stride, scale)
        panel.set_title(name, fontsize=9)

    panels[0, 0].imshow(pixels)
    _mark_query(panels[0, 0], maps, stride, scale)
    panels[0, 0].set_title(f'query in its window of {maps.window}x{maps.window}', fontsize=9)
    window_map, share = _on_grid(maps, maps.tokens.mean(0)), float(maps.tokens.mean(0).sum())
    overlay(panels[0, 1], window_map, f'to its window: {share:.0%} of its attention')
    if maps.between is not None:
        overlay(panels[0, 2], maps.between.mean((0, 1)), "its window's carriers to all carriers")
        overlay(panels[0, 3], maps.reach(), 'combined')
    for head, panel in zip(range(heads), panels[1:].flat, strict=False):
        between = maps.between
        values = _on_grid(maps, maps.tokens[head]) if between is None else between[head].mean(0)
        overlay(panel, values, f'head {head}')
    figure.suptitle(title, fontsize=11)
    return save_figure(figure, out)


def draw_bias(maps: AttentionMaps, out: Path, title: str) -> Path:
    """Draw the learned position bias of the query for every head; returns ``out``."""
    heads = len(maps.bias)
    figure, panels = panel_per_head(heads)
    row, column = maps.query[0] - maps.origin[0], maps.query[1] - maps.origin[1]
    for head, panel in zip(range(heads), panels.flat, strict=False):
        picture = panel.imshow(maps.bias[head].numpy(), cmap='cividis', vmin=0, vmax=float(maps.bias.max()))
        panel.plot(column, row, marker='+', color='white', markersize=9)
        panel.set_title(f'head {head}', fontsize=9)
    figure.colorbar(picture, ax=panels, shrink=0.7, label='bias (0..16)')
    figure.suptitle(title, fontsize=11)
    return save_figure(figure, out)


def panel_per_head(heads: int) -> tuple['Figure', np.ndarray]:
    """Create a figure with a panel without axes for each head, and its panels (rows, columns)."""
    columns = min(heads, 8)
    rows = -(-heads // columns)
    figure, panels = new_figure((1.7 * columns, 1.9 * rows + 0.5), rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.axis('off')
    return figure, panels


def _on_grid(maps: AttentionMaps, window_values: torch.Tensor) -> torch.Tensor:
    """Place the values of the query's window into a map of the whole token grid that is zero elsewhere."""
    grid = torch.zeros(maps.grid)
    (y, x), w = maps.origin, maps.window
    grid[y : y + w, x : x + w] = window_values
    return grid


def _mark_query(panel: 'Axes', maps: AttentionMaps, stride: int, scale: tuple[float, float]) -> None:
    """Draw a cross at the query and a rectangle around its window, without moving the limits of the axes."""
    from matplotlib.patches import Rectangle

    y_step, x_step = stride * scale[0], stride * scale[1]  # image pixels per token
    (y, x), (top, left), w = maps.query, maps.origin, maps.window
    limits = panel.get_xlim(), panel.get_ylim()
    corner = (left * x_step, top * y_step)
    window = Rectangle(corner, w * x_step, w * y_step, fill=False, edgecolor='white', linewidth=1.2)
    panel.add_patch(window)
    y_center, x_center = (y + 0.5) * y_step, (x + 0.5) * x_step
    panel.plot(x_center, y_center, marker='+', color='cyan', markersize=11, markeredgewidth=2)
    panel.set_xlim(limits[0])
    panel.set_ylim(limits[1])


def save_figure(figure: 'Figure', out: Path) -> Path:
    """Write a picture as PNG and close the figure; returns ``out``."""
    with replacing(out) as temporary:
        temporary.write_bytes(to_png(figure, dpi=110))
    return out
