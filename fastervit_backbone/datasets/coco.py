"""Read COCO jsons."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..utils.errors import UserError
from ..utils.files import read_json


def read_coco(path: Path) -> dict:
    """Read a json with COCO's three lists.

    Raises:
        UserError: broken JSON, or one without them.
    """
    content = read_json(path, 'download or write it again')
    lists = ('images', 'annotations', 'categories')
    missing = [k for k in lists if not isinstance(content, dict) or not isinstance(content.get(k), list)]
    if missing:
        raise UserError(f'{path} is JSON but not COCO: it has no list {", ".join(missing)}')
    return content


def complete_for_evaluation(annotations: Sequence[object]) -> None:
    """Give annotations what pycocotools needs, in place: different ids from 1, and ``iscrowd``.

    pycocotools notes the id of the object that a detection matches, and 0 for none: a perfect detection of
    such an object has AP 0. It looks objects up by their ids: of two with the same one it counts one twice.
    Without ``iscrowd`` it fails.
    """
    records = [a for a in annotations if isinstance(a, dict)]
    largest = max((a['id'] for a in records if is_id(a.get('id'))), default=0)
    seen = {0}
    for annotation in records:
        if annotation.get('iscrowd') not in (0, 1):
            annotation['iscrowd'] = 0
        if is_id(annotation.get('id')) and annotation['id'] in seen:
            largest += 1
            annotation['id'] = largest
        seen.add(annotation.get('id'))


def is_id(value: object) -> bool:
    """Whether this is an integer, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether this is a number that is finite as a float, and no bool."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def are_numbers(values: Sequence) -> bool:
    """Whether all of these are finite numbers; fast for the long lists of polygons."""
    try:
        if set(map(type, values)) <= {int, float} and math.isfinite(sum(values)):
            return True
    except OverflowError:  # an integer too large for a float, or only their sum
        pass
    return all(map(is_number, values))


def is_box(value: object) -> bool:
    """Whether this is four finite numbers."""
    return isinstance(value, list | tuple) and len(value) == 4 and are_numbers(value)
