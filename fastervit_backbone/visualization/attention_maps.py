"""What attention looks at: recomputed from what a running model's attention was given, which leaves the model and its fused kernel alone.

Legend: h heads, N tokens of a sequence, w tokens and c carriers along a window's side, nH x nW windows, K = nH*c x nW*c carriers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor, nn

from ..models.fastervit import FasterViT
from ..models.layers.attention import Attention
from ..models.layers.position import GridBias
from ..models.stages import AttentionStage
from ..utils.errors import UserError

#: The recomputed output of attention may differ by this much of its largest number from what the model computed.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class AttentionMaps:
    """Where one position of an image looks, in one block.

    Args:
        query: (row, column) of the token, in tokens of the stage.
        grid: (rows, columns) of the stage's map, in tokens, whole windows.
        window: w.
        origin: (row, column) of the query's window, in tokens.
        tokens: (h, w, w), attention of the query to the tokens of its window.
        bias: (h, w, w), the learned position bias of these products, 0..16.
        carriers: (h, c, c), attention of the query to its window's carriers, with ``tokens`` 1 in sum; None in a block without carriers.
        between: (h, c*c, nH*c, nW*c), attention of its window's carriers to all carriers; each sums to 1. None without carriers.
        deviation: largest difference between the recomputed outputs and the model's, over the model's largest number.
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
        """(rows, columns), mean over heads, sums to 1: to its window directly, beyond it through the carriers that it reads.

        Carriers read each other before the window reads them, so one attention goes on where the other ends; what is between
        them (MLPs, residuals) is left out, as in attention rollout. A carrier stands for the area that it was pooled from.
        """
        rows, cols = self.grid
        total = torch.zeros(rows, cols)
        y, x = self.origin
        w = self.window
        total[y : y + w, x : x + w] = self.tokens.mean(0)
        if self.carriers is not None:
            share = self.carriers.mean(0).flatten()  # (c*c,)
            over = torch.einsum('c,cyx->yx', share, self.between.mean(0))
            area = torch.nn.functional.interpolate(
                over[None, None], size=(rows, cols), mode='area' if rows < over.shape[0] else 'nearest'
            )[0, 0]
            total += area * over.sum() / area.sum()
        return total


@dataclass
class _Seen:
    """What an attention module was given and gave: parts of a batch, in order."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    bias: Tensor | GridBias | None = None


@contextmanager
def _watched(module: Attention) -> Iterator[_Seen]:
    seen = _Seen()

    def keep(_: nn.Module, arguments: tuple, output: Tensor) -> None:
        seen.inputs.append(arguments[0].detach().clone())
        seen.outputs.append(output.detach().clone())  # the model may reuse its memory
        seen.bias = arguments[1]

    handle = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def attention_weights(
    module: Attention, x_BNC: Tensor, bias: Tensor | GridBias, sequence: int, queries: Tensor
) -> Tensor:
    """``softmax(q k^T / sqrt(d) + bias)`` of some queries of one sequence (paper equation 5), without the fused kernel.

    Args:
        module: whose weights to use.
        x_BNC: what it was given.
        bias: likewise.
        sequence: which of the B.
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


def _bias_rows(bias: Tensor | GridBias, queries: Tensor) -> Tensor:
    """(h, Q, N), of a large grid only the pieces with these queries."""
    if isinstance(bias, Tensor):
        return bias[0][:, queries]
    rows = {}
    wanted = set(queries.tolist())
    for start, end, piece in bias.chunks():
        for query in wanted & set(range(start, end)):
            rows[query] = piece[0, :, query - start]
    return torch.stack([rows[q] for q in queries.tolist()], 1)


def _checked(module: Attention, seen: _Seen, sequence: int, queries: Tensor) -> tuple[Tensor, float]:
    """The weights, and by how much the output they give differs from what the model gave."""
    x, given = torch.cat(seen.inputs), torch.cat(seen.outputs)
    weights = attention_weights(module, x, seen.bias, sequence, queries)
    N, C = x.shape[1:]
    v = module.qkv(x[sequence]).reshape(N, 3, module.num_heads, -1)[:, 2].transpose(0, 1)  # (h, N, d)
    out = module.proj((weights.to(v.dtype) @ v).transpose(0, 1).reshape(len(queries), C))
    given = given[sequence, queries]
    deviation = float((out - given).abs().max() / given.abs().max().clamp(min=1e-12))
    if deviation > TOLERANCE:
        raise RuntimeError(
            f'recomputed attention differs by {deviation:.2g} from what the model computed: is it autocast, or in training?'
        )
    return weights, deviation


def find_block(net: FasterViT, stage: int, block: int) -> tuple[AttentionStage, nn.Module]:
    """A windowed stage (3 or 4, as the paper counts) and its block (from 0; negative from the end).

    Raises:
        UserError: there is none.
    """
    stages = [i + 1 for i, s in enumerate(net.stages) if isinstance(s, AttentionStage)]
    if stage not in stages:
        raise UserError(
            f'stage {stage} has no attention: {" and ".join(map(str, stages)) or "none"} of this backbone have'
        )
    owner = net.stages[stage - 1]
    if not -len(owner.blocks) <= block < len(owner.blocks):
        raise UserError(f'stage {stage} has blocks 0 to {len(owner.blocks) - 1}, not {block}')
    return owner, owner.blocks[block]


def attention_maps(
    net: FasterViT, image: Tensor, query: tuple[float, float], *, stage: int = 3, block: int = -1
) -> AttentionMaps:
    """Run the backbone once and read one query's attention.

    Args:
        net: in eval mode; unchanged.
        image: (1, in_chans, H, W), prepared for it.
        query: (y, x) in pixels of ``image``.
        stage: 3 or 4.
        block: from 0; negative counts from the end.

    Raises:
        UserError: no such stage or block, a query outside of the image, or not one image.
    """
    owner, module = find_block(net, stage, block)
    H, W = image.shape[2:]
    if len(image) != 1 or not (0 <= query[0] < H and 0 <= query[1] < W):
        raise UserError(f'query {query[0]:g}, {query[1]:g} is not in the image of {H}x{W} pixels')
    w, c, stride = owner.window, module.carrier_size or 0, 2 ** (stage + 1)
    with torch.inference_mode(), _watched(module.layer.attn) as local:
        if c:
            with _watched(module.carrier.layer.attn) as among:
                net(image)
        else:
            net(image)
        nH, nW = (ceil(ceil(side / stride) / w) for side in (H, W))
        row, col = int(query[0]) // stride, int(query[1]) // stride
        index, inside = row // w * nW + col // w, row % w * w + col % w
        weights, deviation = _checked(module.layer.attn, local, index, torch.tensor([c * c + inside]))
        carriers = between = None
        if c:
            carriers = weights[:, 0, : c * c].reshape(-1, c, c)
            first_row, first_col = row // w * c, col // w * c
            own = [(first_row + i) * nW * c + first_col + j for i in range(c) for j in range(c)]
            between, other = _checked(module.carrier.layer.attn, among, 0, torch.tensor(own))
            between, deviation = between.reshape(-1, c * c, nH * c, nW * c), max(deviation, other)
        bias = _bias_rows(local.bias, torch.tensor([c * c + inside]))[:, 0, c * c :]
    tokens = weights[:, 0, c * c :].reshape(-1, w, w)
    values = (tokens, bias.float().reshape(-1, w, w), carriers, between)
    return AttentionMaps(
        (row, col),
        (nH * w, nW * w),
        w,
        (row // w * w, col // w * w),
        *(None if v is None else v.float().cpu() for v in values),
        deviation,
    )
