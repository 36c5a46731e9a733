"""A contact sheet: images of every split with what is annotated on them, on one picture."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageOps
from pycocotools import mask as coco_mask

from ..datasets.images import open_image
from ..datasets.validation.coco import Split
from ..datasets.validation.label_maps import LabelSplit, pair_files
from ..datasets.validation.repair import repair
from ..structures.prediction import Categories, Prediction, encode_mask
from ..utils.errors import UserError
from ..utils.files import replacing
from .draw import draw

#: Images of a split, pixels of a cell, cells side by side, pixels of a line of text.
_EACH, _CELL, _COLUMNS, _TEXT = 12, 420, 4, 16


def check_sheet(path: str | Path) -> None:
    """Raise UserError where a sheet cannot be called so."""
    if Path(path).suffix not in ('.jpg', '.png'):
        raise UserError(f'--sheet {path}: the name must end in .jpg or .png')


def write_sheet(
    splits: Sequence[Split | LabelSplit],
    path: str | Path,
    classes: Sequence[str] | None = None,
    *,
    reduce_zero_label: bool = False,
    ignored: Sequence[int] = (),
) -> Path:
    """Draw up to twelve images of each split, evenly out of all, as far as they can be read.

    Args:
        splits: looked through before.
        path: ``.jpg`` or ``.png``.
        classes: of label maps.
        reduce_zero_label: of label maps: 0 means "no class" and 1 is the first.
        ignored: of label maps: values that mean "no class".

    Raises:
        UserError: another ending, or no image can be shown.
    """
    path = Path(path)
    check_sheet(path)
    cells: list[tuple[str, Image.Image]] = []
    for split in splits:
        cells += (
            _objects(split)
            if isinstance(split, Split)
            else _labels(split, classes, reduce_zero_label, ignored)
        )
    if not cells:
        raise UserError(f'--sheet {path}: no image can be shown')
    rows = [cells[i : i + _COLUMNS] for i in range(0, len(cells), _COLUMNS)]
    heights = [max(picture.height for _, picture in row) + _TEXT for row in rows]
    sheet = Image.new('RGB', (_COLUMNS * _CELL, sum(heights)), 'white')
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        for j, (words, picture) in enumerate(row):
            sheet.paste(picture, (j * _CELL, sum(heights[:i]) + _TEXT))
            pen.text(
                (j * _CELL + 2, sum(heights[:i]) + 2), words.encode('ascii', 'replace').decode(), fill='black'
            )
    with replacing(path) as temporary:
        sheet.save(temporary, format='JPEG' if path.suffix == '.jpg' else 'PNG')
    return path


def _objects(split: Split) -> Iterator[tuple[str, Image.Image]]:
    content = repair(split)  # so that everything can be drawn
    of_image = defaultdict(list)
    for a in content['annotations']:
        of_image[a['image_id']].append(a)
    ids = [c['id'] for c in content['categories']]
    categories = Categories(tuple(str(c['name']) for c in content['categories']), tuple(ids))
    for entry in _some(content['images']):
        found, (h, w) = of_image[entry['id']], (entry['height'], entry['width'])
        boxes = np.array([a['bbox'] for a in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [_mask(a.get('segmentation'), h, w) for a in found]
        labels = np.array([ids.index(a['category_id']) for a in found], int)
        shown = Prediction((h, w), boxes, np.ones(len(found), np.float32), labels, masks if found else None)
        with suppress(UserError):
            yield (
                f'{split.name}: {entry["file_name"]}, {len(found)} objects',
                _cell(split.images / entry['file_name'], shown, categories),
            )


def _mask(segmentation: object, h: int, w: int) -> dict:
    if not segmentation:
        return encode_mask(np.zeros((h, w), bool))
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, h, w))
    return (
        segmentation
        if isinstance(segmentation['counts'], str | bytes)
        else coco_mask.frPyObjects(segmentation, h, w)
    )


def _labels(
    split: LabelSplit, classes: Sequence[str] | None, reduce_zero_label: bool, ignored: Sequence[int]
) -> Iterator[tuple[str, Image.Image]]:
    names = (
        tuple(classes)
        if classes
        else tuple(f'value {v}' for v in range(int(np.flatnonzero(split.pixels[:255]).max(initial=0)) + 1))
    )
    for image, label in _some(pair_files(split)[0]):
        try:
            with open_image(label) as opened:
                values = np.asarray(opened)
        except UserError:
            continue
        if values.ndim != 2:
            continue
        values = np.where(
            np.isin(values, [255, *ignored]), 2**16 - 1, values.astype(np.int64) - reduce_zero_label
        ).astype(np.uint16)
        shown = Prediction(
            values.shape, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), label_map=values
        )  # -1 is 65535: no class
        with suppress(UserError):  # the findings name it
            yield (
                f'{split.name}: {image.name}',
                _cell(image, shown, Categories(names, tuple(range(len(names))))),
            )


def _some(entries: Sequence) -> list:
    return (
        [
            entries[i]
            for i in np.unique(np.linspace(0, len(entries) - 1, min(_EACH, len(entries))).astype(int))
        ]
        if entries
        else []
    )


def _cell(path: Path, shown: Prediction, categories: Categories) -> Image.Image:
    with open_image(path) as opened:
        pixels = np.asarray(ImageOps.exif_transpose(opened).convert('RGB'))[..., ::-1]
    h, w = shown.size
    if pixels.shape[:2] != (h, w):
        pixels = cv2.resize(pixels, (w, h))
    picture = Image.fromarray(draw(np.ascontiguousarray(pixels), shown, categories, scores=False)[..., ::-1])
    return picture.resize(
        (_CELL, max(1, round(picture.height * _CELL / picture.width))), Image.Resampling.LANCZOS
    )
