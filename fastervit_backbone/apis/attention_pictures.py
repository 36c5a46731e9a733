"""Attention drawn over its image (as figures S.1 and S.3 of the paper)."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..models.fastervit import FasterViT
from ..utils.errors import UserError
from ..utils.files import replacing
from ..visualization.attention_maps import AttentionMaps, attention_maps, find_block
from .predictor import Predictor
from .sources import read_image


def visualize(
    predictor: Predictor,
    image: str | Path,
    out: str | Path,
    *,
    query: tuple[float, float] | None = None,
    stage: int = 3,
    block: int = -1,
) -> list[str]:
    """Draw the attention of one place of an image, and its position biases.

    Args:
        predictor: its backbone a FasterViT.
        image: file.
        out: folder for ``attention_*.png`` and ``bias_*.png``.
        query: (y, x), pixels of the image; None: its middle.
        stage: 3 or 4.
        block: from 0; negative from the end.

    Returns:
        lines for people.

    Raises:
        UserError: another backbone, a query outside of the image, no such stage or block.
    """
    net = predictor.model.backbone
    if not isinstance(net, FasterViT):
        raise UserError(f'the backbone is {type(net).__name__}: attention is drawn of FasterViT alone')
    find_block(net, stage, block)
    pixels = read_image(image)
    H, W = pixels.shape[:2]
    y, x = query or (H / 2, W / 2)
    if not (0 <= y < H and 0 <= x < W):
        raise UserError(f'--query {y:g} {x:g}: {image} has {H} rows and {W} columns')
    prepared, size = predictor.prepare(pixels)
    maps = attention_maps(net, prepared, (y * size[0] / H, x * size[1] / W), stage=stage, block=block)
    index = block % len(net.stages[stage - 1].blocks)
    name, title = (
        f'{Path(image).stem}_stage{stage}_block{index}',
        f'{Path(image).name}, stage {stage}, block {index}',
    )
    paths = [Path(out) / f'attention_{name}.png', Path(out) / f'bias_{name}.png']
    draw_attention(np.ascontiguousarray(pixels[..., ::-1]), maps, size, 2 ** (stage + 1), paths[0], title)
    draw_bias(maps, paths[1], f'position bias, {title}')
    said = f'{maps.tokens.mean(0).sum():.1%} of the attention stays in the window'
    if maps.carriers is not None:
        said += f', {maps.carriers.mean(0).sum():.1%} goes to its {maps.carriers[0].numel()} carriers'
    return [
        said,
        f"recomputed outputs differ by {maps.deviation:.1g} from the model's",
        *(f'written: {p}' for p in paths),
    ]


def draw_attention(
    pixels: np.ndarray, maps: AttentionMaps, size: tuple[int, int], stride: int, out: Path, title: str
) -> Path:
    """Four views of a query: its window, its window's carriers, both together, and each head alone.

    Args:
        pixels: the image (H, W, 3), uint8, RGB.
        maps: of it.
        size: (height, width) that the backbone saw of it, without padding.
        stride: pixels of that size a token.
        out: picture to write.
        title: above all.
    """
    plt = _pyplot()
    H, W = pixels.shape[:2]
    y_scale, x_scale = H / size[0], W / size[1]
    heads = len(maps.tokens)
    shown = ['window', 'carriers', 'reach'] if maps.carriers is not None else ['window']
    columns = max(len(shown) + 1, min(heads, 8))
    head_rows = -(-heads // columns)
    aspect = H / W
    figure, panels = plt.subplots(
        1 + head_rows,
        columns,
        figsize=(3 * columns, 3 * aspect + 0.6 + (3 * aspect + 0.3) * head_rows),
        squeeze=False,
        layout='constrained',
    )
    for panel in panels.flat:
        panel.axis('off')
    full = (maps.grid[0] * stride, maps.grid[1] * stride)  # with the padding of windows

    def over(panel: object, values: torch.Tensor, name: str) -> None:
        """values (rows, columns) over the padded map, laid over the image."""
        large = F.interpolate(values[None, None], size=full, mode='nearest')[0, 0, : size[0], : size[1]]
        large = F.interpolate(large[None, None], size=(H, W), mode='nearest')[0, 0].numpy()
        panel.imshow(pixels)
        panel.imshow(
            large, cmap='inferno', alpha=0.6, vmin=float(large.min()), vmax=max(float(large.max()), 1e-12)
        )
        _mark(panel, maps, stride, y_scale, x_scale)
        panel.set_title(name, fontsize=9)

    panels[0, 0].imshow(pixels)
    _mark(panels[0, 0], maps, stride, y_scale, x_scale)
    panels[0, 0].set_title(f'query in its window of {maps.window}x{maps.window}', fontsize=9)
    in_window = float(maps.tokens.mean(0).sum())
    over(panels[0, 1], _placed(maps, maps.tokens.mean(0)), f'to its window: {in_window:.0%} of its attention')
    if maps.carriers is not None:
        over(panels[0, 2], maps.between.mean((0, 1)), "its window's carriers to all carriers")
        over(panels[0, 3], maps.reach(), 'together')
    for head in range(heads):
        panel = panels[1 + head // columns, head % columns]
        values = maps.tokens[head] if maps.carriers is None else maps.between[head].mean(0)
        over(panel, _placed(maps, values) if maps.carriers is None else values, f'head {head}')
    figure.suptitle(title, fontsize=11)
    return _save(figure, out)


def draw_bias(maps: AttentionMaps, out: Path, title: str) -> Path:
    """The learned position bias of the query, head by head."""
    plt = _pyplot()
    heads = len(maps.bias)
    columns = min(heads, 8)
    figure, panels = plt.subplots(
        -(-heads // columns),
        columns,
        figsize=(1.7 * columns, 1.9 * -(-heads // columns) + 0.5),
        squeeze=False,
        layout='constrained',
    )
    for panel in panels.flat:
        panel.axis('off')
    for head, panel in zip(range(heads), panels.flat, strict=False):
        shown = panel.imshow(maps.bias[head].numpy(), cmap='cividis', vmin=0, vmax=float(maps.bias.max()))
        y, x = maps.query[0] - maps.origin[0], maps.query[1] - maps.origin[1]
        panel.plot(x, y, marker='+', color='white', markersize=9)
        panel.set_title(f'head {head}', fontsize=9)
    figure.colorbar(shown, ax=panels, shrink=0.7, label='bias (0..16)')
    figure.suptitle(title, fontsize=11)
    return _save(figure, out)


def _placed(maps: AttentionMaps, values: torch.Tensor) -> torch.Tensor:
    whole = torch.zeros(maps.grid)
    (y, x), w = maps.origin, maps.window
    whole[y : y + w, x : x + w] = values
    return whole


def _mark(panel: object, maps: AttentionMaps, stride: int, y_scale: float, x_scale: float) -> None:
    from matplotlib.patches import Rectangle

    (y, x), (top, left), side = maps.query, maps.origin, maps.window * stride
    corner, width, height = (left * stride * x_scale, top * stride * y_scale), side * x_scale, side * y_scale
    limits = panel.get_xlim(), panel.get_ylim()
    panel.add_patch(Rectangle(corner, width, height, fill=False, edgecolor='white', linewidth=1.2))
    panel.plot(
        (x + 0.5) * stride * x_scale,
        (y + 0.5) * stride * y_scale,
        marker='+',
        color='cyan',
        markersize=11,
        markeredgewidth=2,
    )
    panel.set_xlim(limits[0])
    panel.set_ylim(limits[1])


def _pyplot() -> object:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    return plt


def _save(figure: object, out: Path) -> Path:
    with replacing(out) as temporary:
        figure.savefig(temporary, format='png', dpi=110)
    _pyplot().close(figure)
    return out
