"""Where a position of an image looks, recomputed from the inputs of a running model's attention modules.

The model itself is not changed and keeps its fused kernel.

Legend: h heads, N tokens of a sequence, w tokens and c carriers along the side of a window, nH x nW windows.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.fastervit import FasterViT
from ..models.layers.attention import Attention
from ..models.layers.position import AttentionBias, GridBias
from ..models.stages import AttentionStage
from ..utils.errors import UserError

#: Highest difference between the recomputed and the model's outputs, as a fraction of the largest output.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of one position of an image, the query, in one block.

    Args:
        query: (row, column) of the query, in tokens of the stage.
        grid: (rows, columns) of the stage's map, in tokens, padded to whole windows.
        window: w.
        origin: (row, column) of the query's window, in tokens.
        tokens: (h, w, w), attention of the query to the tokens of its window.
        bias: (h, w, w), the learned position bias of these products, 0..16.
        carriers: (h, c, c), attention of the query to its window's carriers; with ``tokens`` it sums to 1.
            None in a block without carriers.
        between: (h, c*c, nH*c, nW*c), attention of these carriers to all; each sums to 1. None like these.
        deviation: largest difference between the recomputed and the model's outputs, over the largest output.
    """

    query: tuple[int, int]
    grid: tuple[int, int]
    window: int
    origin: tuple[int, int]
    tokens: Tensor
    bias: Tensor
    carriers: Tensor | None
    between: Tensor | None
    deviation: float

    def reach(self) -> Tensor:
        """Compute the attention to the whole map: to the window directly, beyond it through carriers.

        Carriers attend to each other before the window attends to them, so the two attentions are multiplied.
        What is between them (MLPs, residuals) is left out, as in attention rollout. The attention to a
        carrier is spread over the area that it was pooled from.

        Returns:
            (rows, columns), mean over heads, sums to 1.
        """
        rows, cols = self.grid
        total = torch.zeros(rows, cols)
        y, x = self.origin
        w = self.window
        total[y : y + w, x : x + w] = self.tokens.mean(0)
        if self.carriers is not None:
            weights = self.carriers.mean(0).flatten()  # (c*c,)
            through = torch.einsum('c,cyx->yx', weights, self.between.mean(0))
            mode = 'area' if rows < through.shape[0] else 'nearest'
            spread = F.interpolate(through[None, None], size=(rows, cols), mode=mode)[0, 0]
            total += spread * through.sum() / spread.sum()
        return total


@dataclass
class _Recording:
    """Inputs and outputs of an attention module, by parts of a batch in order."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    bias: AttentionBias | None = None


@contextmanager
def _record(module: Attention) -> Iterator[_Recording]:
    recording = _Recording()

    def hook(_: nn.Module, arguments: tuple, output: Tensor) -> None:
        recording.inputs.append(arguments[0].detach().clone())
        recording.outputs.append(output.detach().clone())  # the model may reuse the memory
        recording.bias = arguments[1]

    handle = module.register_forward_hook(hook)
    try:
        yield recording
    finally:
        handle.remove()


def attention_weights(
    module: Attention, x_BNC: Tensor, bias: AttentionBias, sequence: int, queries: Tensor
) -> Tensor:
    """Compute ``softmax(q k^T / sqrt(d) + bias)`` (paper equation 5) of some queries, without fused kernel.

    Args:
        module: the attention module.
        x_BNC: its input.
        bias: its position bias.
        sequence: index of the sequence in the batch.
        queries: (Q,), indices of tokens.

    Returns:
        (h, Q, N); rows sum to 1.
    """
    x = x_BNC[sequence]
    N, C = x.shape
    d = C // module.num_heads
    # (N, 3*C) -> (3, h, N, d)
    q, k, _ = module.qkv(x).reshape(N, 3, module.num_heads, d).permute(1, 2, 0, 3).float()
    products = q[:, queries] @ k.transpose(1, 2) / d**0.5
    return torch.softmax(products + _bias_rows(bias, queries).float(), -1)


def _bias_rows(bias: AttentionBias, queries: Tensor) -> Tensor:
    """Return (h, Q, N), the bias of some queries; a large grid is computed in pieces."""
    if isinstance(bias, Tensor):
        return bias[0][:, queries]
    assert isinstance(bias, GridBias), 'windows with a border were refused'
    rows, indices = {}, queries.tolist()
    for start, end, piece in bias.chunks():
        for query in set(indices) & set(range(start, end)):
            rows[query] = piece[0, :, query - start]
    return torch.stack([rows[query] for query in indices], 1)


def _checked_weights(
    module: Attention, recording: _Recording, sequence: int, queries: Tensor
) -> tuple[Tensor, float]:
    """Recompute attention weights; also return how far the outputs they give are from the model's."""
    x, outputs = torch.cat(recording.inputs), torch.cat(recording.outputs)
    weights = attention_weights(module, x, recording.bias, sequence, queries)
    N, C = x.shape[1:]
    v = module.qkv(x[sequence]).reshape(N, 3, module.num_heads, -1)[:, 2].transpose(0, 1)  # (h, N, d)
    recomputed = module.proj((weights.to(v.dtype) @ v).transpose(0, 1).reshape(len(queries), C))
    expected = outputs[sequence, queries]
    deviation = float((recomputed - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if deviation > TOLERANCE:
        raise RuntimeError(
            f"recomputed attention differs by {deviation:.2g} from the model's: use eval mode, no autocast"
        )
    return weights, deviation


def find_block(net: FasterViT, stage: int, block: int) -> tuple[AttentionStage, nn.Module]:
    """Return a stage with attention and one of its blocks.

    Args:
        net: the backbone.
        stage: 3 or 4, as the paper counts.
        block: from 0; negative counts from the end.

    Raises:
        UserError: there is no such stage or block.
    """
    stages = [i for i, s in enumerate(net.stages, 1) if isinstance(s, AttentionStage)]
    if stage not in stages:
        choices = ' and '.join(map(str, stages)) or 'none'
        raise UserError(f'stage {stage} has no attention; in this backbone, {choices} have')
    owner = net.stages[stage - 1]
    if not -len(owner.blocks) <= block < len(owner.blocks):
        raise UserError(f'stage {stage} has blocks 0 to {len(owner.blocks) - 1}, not {block}')
    return owner, owner.blocks[block]


def attention_maps(
    net: FasterViT, image: Tensor, query: tuple[float, float], *, stage: int = 3, block: int = -1
) -> AttentionMaps:
    """Run the backbone once and compute the attention of one query.

    Args:
        net: backbone in eval mode; not changed.
        image: (1, in_chans, H, W), preprocessed.
        query: (y, x) in pixels of ``image``.
        stage: 3 or 4.
        block: from 0; negative counts from the end.

    Raises:
        UserError: there is no such stage or block, the query is outside the image, or not one image is given.
    """
    owner, module = find_block(net, stage, block)
    H, W = image.shape[2:]
    if len(image) != 1 or not (0 <= query[0] < H and 0 <= query[1] < W):
        raise UserError(f'query {query[0]:g}, {query[1]:g} is not in the image of {H}x{W} pixels')
    if type(module.layer.attn) is not Attention:
        raise UserError(f'attention of {type(module.layer.attn).__name__} is not drawn')
    w, c, stride = owner.window, module.carrier_size or 0, 2 ** (stage + 1)
    nH, nW = (ceil(ceil(side / stride) / w) for side in (H, W))
    row, col = int(query[0]) // stride, int(query[1]) // stride
    limit = owner.carrier_window if c else None
    if limit is not None and max(nH, nW) * c > limit:
        raise UserError(
            f'an image of {H}x{W} pixels has carriers of higher order (carrier_window={limit}), whose '
            'attention cannot be shown: use a smaller image'
        )
    window = row // w * nW + col // w
    token = torch.tensor([c * c + row % w * w + col % w])  # carriers come first
    carriers = between = None
    with torch.inference_mode(), ExitStack() as stack:
        in_window = stack.enter_context(_record(module.layer.attn))
        if c:
            among_carriers = stack.enter_context(_record(module.carrier.layer.attn))
        net(image)
        weights, deviation = _checked_weights(module.layer.attn, in_window, window, token)
        bias = _bias_rows(in_window.bias, token)[:, 0, c * c :]
        tokens = weights[:, 0, c * c :].reshape(-1, w, w)
        if c:
            carriers = weights[:, 0, : c * c].reshape(-1, c, c)
            top, left = row // w * c, col // w * c  # of the window's carriers
            indices = [(top + i) * nW * c + left + j for i in range(c) for j in range(c)]
            between, carrier_deviation = _checked_weights(
                module.carrier.layer.attn, among_carriers, 0, torch.tensor(indices)
            )
            between = between.reshape(-1, c * c, nH * c, nW * c)
            deviation = max(deviation, carrier_deviation)
    maps = (tokens, bias.reshape(-1, w, w), carriers, between)
    return AttentionMaps(
        (row, col),
        (nH * w, nW * w),
        w,
        (row // w * w, col // w * w),
        *(None if values is None else values.float().cpu() for values in maps),
        deviation,
    )
