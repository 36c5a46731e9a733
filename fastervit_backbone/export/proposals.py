"""How many proposals a detector with regions gets: what it costs most, and often needs least."""

from collections.abc import Mapping
from typing import Any

from ..inference.exported_input import prepare
from ..structures.prediction import Categories
from ..utils.errors import UserError
from ..utils.log import log
from .images import Images, score
from .reference import Reference

#: Numbers that ``auto`` tries, in this order.
TRIED = (25, 50, 100, 200, 300, 500)
#: Loss of box or mask AP that ``auto`` accepts.
LOSS = 0.001


def limit_proposals(
    wanted: str | int, reference: Reference, info: Mapping[str, Any], images: Images, categories: Categories
) -> dict[str, Any]:
    """Let a detector have fewer proposals.

    Args:
        wanted: their number, or 'auto': the fewest of :data:`TRIED` with which no AP on the images falls by
            more than :data:`LOSS`.
        reference: the detector, which is changed, as is its graph.
        info: how the file's images are prepared.
        images: with truth, for 'auto'.
        categories: of the detector.

    Returns:
        for the json: ``number`` and ``of``; with 'auto' the ``metrics`` of both.

    Raises:
        UserError: a detector without proposals, a number out of range, or no truth.
    """
    if not hasattr(reference.model, 'rpn_head'):
        raise UserError(f'--proposals {wanted}: {type(reference.model).__name__} has none, leave it out')
    heads = reference.model.rpn_head, reference.graph.model.rpn_head
    most = heads[0].test_cfg.max_per_img

    def limit(number: int) -> None:
        for head in heads:
            head.test_cfg.max_per_img = number

    if wanted != 'auto':
        number = int(wanted) if str(wanted).isdecimal() else 0
        if not 1 <= number <= most:
            raise UserError(f"--proposals {wanted}: must be auto, or 1 to {most}, the config's number")
        limit(number)
        return dict(number=number, of=most)
    if images.truth is None:
        raise UserError('--proposals auto needs images and their truth: give --verify and --annotations')

    def metrics(number: int) -> dict[str, float]:
        limit(number)
        predictions = []
        for i in range(len(images)):
            (pixels,) = images.read([i])
            size = (pixels.shape[0], pixels.shape[1])
            predictions.append(reference.predict(*prepare(pixels, info), size))
        return score(predictions, images, categories)

    before = metrics(most)
    for number in [n for n in TRIED if n < most]:
        after = metrics(number)
        if all(after.get(name, 0.0) >= value - LOSS for name, value in before.items()):
            break
    else:
        number, after = most, before
    limit(number)
    figures = ', '.join(f'{name} {value:.4f} -> {after[name]:.4f}' for name, value in before.items())
    log(f'proposals: {number} of {most} ({figures})')
    return dict(number=number, of=most, metrics={k: [v, after[k]] for k, v in before.items()})
