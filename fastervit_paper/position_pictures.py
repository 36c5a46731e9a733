"""Pictures of the learned position biases, as in figure S.3 of the paper."""

from pathlib import Path

import torch
from torch import nn

from fastervit_backbone.inference.attention_pictures import check_backbone, panel_per_head, save_figure
from fastervit_backbone.models.layers.position import RelativeBias
from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.visualization.attention_maps import find_block


def draw_kernels(net: nn.Module, out: str | Path, *, stage: int = 3, block: int = -1) -> list[str]:
    """Draw the learned position bias of every offset within a window, one kernel per head, as in figure S.3.

    Args:
        net: the backbone, a FasterViT.
        out: output folder for ``kernels_*.png``.
        stage: 3 or 4.
        block: index in the stage, from 0; negative values count from the end.

    Returns:
        messages for the user.

    Raises:
        UserError: the backbone is no FasterViT, or there is no such block.
    """
    net = check_backbone(net)
    owner, module = find_block(net, stage, block)
    bias = module.bias
    if not isinstance(bias, RelativeBias):
        raise UserError(f'block {block} of stage {stage} has no learned bias')
    with torch.no_grad():
        border = getattr(bias, 'overlap', 0)
        table = bias.table((owner.window, owner.window), border).cpu()
    kernels = table.flip(1, 2)  # of query minus key: flipped, keys are where they are
    figure, panels = panel_per_head(len(kernels))
    limit = owner.window + border - 0.5
    for head, panel in zip(range(len(kernels)), panels.flat, strict=False):
        picture = panel.imshow(kernels[head], cmap='cividis', extent=(-limit, limit, limit, -limit))
        panel.plot(0, 0, marker='+', color='white', markersize=7)
        panel.set_title(f'head {head}: {kernels[head].min():.1f} to {kernels[head].max():.1f}', fontsize=8)
    figure.colorbar(picture, ax=panels, shrink=0.7, label='low to high, of each head', ticks=[])
    index = block % len(owner.blocks)
    figure.suptitle(f'position bias of the keys around a query, stage {stage}, block {index}', fontsize=11)
    return [f'written: {save_figure(figure, Path(out) / f"kernels_stage{stage}_block{index}.png")}']
