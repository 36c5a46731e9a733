"""The COCO rules of segmentations: polygons and run lengths, beside the box and the image of their object."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ..coco import are_numbers, has_size, is_box, is_id

#: Left, top, right and bottom of a mask.
Extent: TypeAlias = tuple[float, float, float, float]
#: Pixels by which a box or mask may reach out of its image unnoticed.
SLACK = 1.0
#: Pixels by which a mask's extent may differ from its box, however small both are.
_NEAR = 4.0


def mask_violation(mask: object, box: object, image: Mapping | None) -> str:
    """Return the rule that a segmentation breaks, or ''.

    Args:
        mask: polygons or a run-length code.
        box: of the same object.
        image: the entry of its image, where there is one.
    """
    if mask is None or mask == []:
        return 'mask-none'
    if isinstance(mask, dict):
        rule, extent = _run_lengths(mask, image)
    elif not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
        return 'mask-bad'
    else:
        broken = {polygon_violation(polygon) for polygon in mask}
        rule = next((rule for rule in ('polygon-bad', 'polygon-short') if rule in broken), '')
        good = [] if rule else mask
        xs, ys = [p[::2] for p in good], [p[1::2] for p in good]
        extent = (min(map(min, xs)), min(map(min, ys)), max(map(max, xs)), max(map(max, ys))) if xs else None
    if rule or extent is None:
        return rule
    if image is not None and has_size(image):
        x1, y1, x2, y2 = extent
        if min(x1, y1) < -SLACK or x2 > image['width'] + SLACK or y2 > image['height'] + SLACK:
            return 'mask-reaches-out'
    return '' if _is_box_of(extent, box) else 'mask-off-box'


def _is_box_of(extent: Extent, box: object) -> bool:
    """Whether a mask's extent (x1, y1, x2, y2) and a box share half of what they cover, or nearly agree."""
    if not (isinstance(box, list) and is_box(box)):
        return True  # the rules of boxes say what is wrong
    x1, y1, x2, y2 = extent
    X1, Y1, X2, Y2 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    if max(abs(x1 - X1), abs(y1 - Y1), abs(x2 - X2), abs(y2 - Y2)) <= _NEAR:
        return True
    width, height = min(x2, X2) - max(x1, X1), min(y2, Y2) - max(y1, Y1)
    if width <= 0 or height <= 0:
        return False
    shared = width * height
    return 2 * shared >= (x2 - x1) * (y2 - y1) + (X2 - X1) * (Y2 - Y1) - shared


def polygon_violation(polygon: Sequence) -> str:
    """Return the rule that one polygon breaks, or ''."""
    if len(polygon) % 2 or not are_numbers(polygon):
        return 'polygon-bad'
    return 'polygon-short' if len(polygon) < 6 else ''


def _run_lengths(mask: Mapping, image: Mapping | None) -> tuple[str, Extent | None]:
    """Return the rule that a run-length code breaks, or '', and its extent; None if it is empty."""
    size, counts = mask.get('size'), mask.get('counts')
    if not (
        isinstance(size, list) and len(size) == 2 and all(map(is_id, size)) and isinstance(counts, str | list)
    ):
        return 'mask-bad', None
    if image is not None and size != [image.get('height'), image.get('width')]:
        return 'mask-size', None
    height, width = size
    if min(size) < 1 or max(size) > 2**31:
        return 'mask-bad', None
    lengths = counts if isinstance(counts, list) else decode_run_lengths(counts)
    if lengths is None or not all(is_id(c) and c >= 0 for c in lengths) or sum(lengths) != height * width:
        return 'mask-bad', None
    ends = list(itertools.accumulate(lengths))
    spans = [(start, end) for start, end in zip(ends[::2], ends[1::2], strict=False) if end > start]
    if not spans:
        return 'mask-empty', None
    last = [(start, end - 1) for start, end in spans]
    ys = [(s % height, e % height + 1) if s // height == e // height else (0, height) for s, e in last]
    x1, x2 = spans[0][0] // height, (spans[-1][1] - 1) // height + 1
    return '', (x1, min(y for y, _ in ys), x2, max(y for _, y in ys))


def decode_run_lengths(text: str) -> list[int] | None:
    """Return the run lengths of COCO's compressed text, five bits a character; None if it is none."""
    lengths: list[int] = []
    value = shift = 0
    for character in text.encode('ascii', 'replace'):
        bits = character - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:  # negative
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return None if shift else lengths
