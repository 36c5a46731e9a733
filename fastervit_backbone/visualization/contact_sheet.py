"""Contact sheet: a grid of images from every split with their annotations drawn on them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from ..datasets.image_headers import open_image
from ..datasets.images import read_picture
from ..datasets.validation.coco import CocoSplit
from ..datasets.validation.label_maps import LabelMapSplit, pair_files
from ..datasets.validation.repair import repair
from ..structures.prediction import Categories, Prediction, encode_mask
from ..utils.errors import UserError
from ..utils.files import replacing
from .draw import draw
from .text import font

#: Images per split, width of a cell in pixels, cells per row, height of a line of text in pixels.
_IMAGES, _CELL, _COLUMNS, _TEXT = 12, 420, 4, 16
#: Value of ignored pixels in the label maps that are drawn.
_IGNORED = 65535


def check_sheet(path: str | Path) -> None:
    """Raise UserError unless the file name of a sheet ends in .jpg or .png."""
    if Path(path).suffix not in ('.jpg', '.png'):
        raise UserError(f'--sheet {path}: the name must end in .jpg or .png')


def write_sheet(
    splits: Sequence[CocoSplit | LabelMapSplit],
    path: str | Path,
    classes: Sequence[str] | None = None,
    *,
    reduce_zero_label: bool = False,
    ignored: Sequence[int] = (),
) -> Path:
    """Draw up to twelve images per split, evenly spaced; unreadable images are left out.

    Args:
        splits: splits that were checked before.
        path: ``.jpg`` or ``.png`` file to write.
        classes: class names of label maps.
        reduce_zero_label: label maps: 0 is ignored and 1 is the first class.
        ignored: label maps: further ignored values.

    Raises:
        UserError: the file name has another ending, or no image can be drawn.
    """
    path = Path(path)
    check_sheet(path)
    cells: list[tuple[str, Image.Image]] = []
    for split in splits:
        if isinstance(split, CocoSplit):
            cells += _object_cells(split)
        else:
            cells += _label_map_cells(split, classes, reduce_zero_label, ignored)
    if not cells:
        raise UserError(f'--sheet {path}: no image can be drawn')
    save_grid(cells, path)
    return path


def save_grid(cells: Sequence[tuple[str, Image.Image]], path: Path) -> None:
    """Write pictures of equal width, each with a line of text, as one ``.jpg`` or ``.png``."""
    rows = [cells[i : i + _COLUMNS] for i in range(0, len(cells), _COLUMNS)]
    heights = [max(picture.height for _, picture in row) + _TEXT for row in rows]
    sheet = Image.new('RGB', (_COLUMNS * _CELL, sum(heights)), 'white')
    pen = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, (text, picture) in enumerate(row):
            sheet.paste(picture, (column * _CELL, top + _TEXT))
            written = dict() if text.isascii() else dict(font=font(_TEXT - 2))
            pen.text((column * _CELL + 2, top + 2), text, fill='black', **written)
        top += height
    with replacing(path) as temporary:
        sheet.save(temporary, format='JPEG' if path.suffix == '.jpg' else 'PNG')


def _object_cells(split: CocoSplit) -> Iterator[tuple[str, Image.Image]]:
    content = repair(split)  # so that all annotations can be drawn
    by_image = defaultdict(list)
    for a in content['annotations']:
        by_image[a['image_id']].append(a)
    ids = tuple(c['id'] for c in content['categories'])
    categories = Categories(tuple(str(c['name']) for c in content['categories']), ids)
    for entry in evenly_spaced(content['images']):
        objects, (h, w) = by_image[entry['id']], (entry['height'], entry['width'])
        boxes = np.array([a['bbox'] for a in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.ones(len(objects), np.float32)
        labels = np.array([ids.index(a['category_id']) for a in objects], int)
        masks = [_encode(a.get('segmentation'), h, w) for a in objects]
        annotated = Prediction((h, w), boxes, scores, labels, masks or None)
        with suppress(UserError):  # unreadable: the findings name it
            picture = _cell(split.images / entry['file_name'], annotated, categories)
            yield f'{split.name}: {entry["file_name"]}, {len(objects)} objects', picture


def _encode(segmentation: object, h: int, w: int) -> dict:
    """Encode COCO's polygons, or either form of run lengths, as compressed run lengths."""
    if not segmentation:
        return encode_mask(np.zeros((h, w), bool))
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, h, w))
    is_compressed = isinstance(segmentation['counts'], str | bytes)
    return segmentation if is_compressed else coco_mask.frPyObjects(segmentation, h, w)


def _label_map_cells(
    split: LabelMapSplit, classes: Sequence[str] | None, reduce_zero_label: bool, ignored: Sequence[int]
) -> Iterator[tuple[str, Image.Image]]:
    if not classes:
        largest = np.flatnonzero(split.pixels[:255]).max(initial=0)
        classes = [f'value {v}' for v in range(int(largest) + 1)]
    categories = Categories(tuple(classes), tuple(range(len(classes))))
    for image, label_map in evenly_spaced(pair_files(split)[0]):
        with suppress(UserError):  # unreadable: the findings name it
            with open_image(label_map) as opened:
                values = np.asarray(opened)
            if values.ndim != 2:
                continue
            indices = values.astype(np.int64) - reduce_zero_label
            indices[np.isin(values, [255, *ignored]) | (indices < 0)] = _IGNORED
            annotated = Prediction(
                values.shape,
                np.zeros((0, 4)),
                np.zeros(0),
                np.zeros(0, int),
                label_map=indices.astype(np.uint16),
            )
            yield f'{split.name}: {image.name}', _cell(image, annotated, categories)


def evenly_spaced(entries: Sequence) -> list:
    """Return the entries that a sheet shows."""
    indices = np.linspace(0, len(entries) - 1, min(_IMAGES, len(entries))).astype(int)
    return [entries[i] for i in np.unique(indices)]


def _cell(path: Path, annotated: Prediction, categories: Categories) -> Image.Image:
    """Draw the annotations of an image file."""
    pixels = np.asarray(read_picture(path))[..., ::-1]
    h, w = annotated.size
    if pixels.shape[:2] != (h, w):
        pixels = cv2.resize(pixels, (w, h))
    return cell(pixels, annotated, categories)


def cell(pixels: np.ndarray, annotated: Prediction, categories: Categories) -> Image.Image:
    """Draw annotations on an image (H, W, 3), uint8, BGR, for :func:`save_grid`."""
    drawn = draw(np.ascontiguousarray(pixels), annotated, categories, scores=False)
    picture = Image.fromarray(drawn[..., ::-1])
    height = max(1, round(picture.height * _CELL / picture.width))
    return picture.resize((_CELL, height), Image.Resampling.LANCZOS)
