"""Objects of any layout as COCO's content, while a reader goes through its files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..utils.errors import UserError
from .image_files import map_in_threads
from .images import image_size
from .rules import COCO_RULES, Violation
from .validation.coco import CocoSplit
from .validation.coco_masks import SLACK

#: Of an image whose file cannot be opened: the check names it.
_UNKNOWN = (0, 0)


class Objects:
    """Collects images, categories and objects of a split.

    Args:
        files: images; those that cannot be opened are a violation each, and left out.
        categories: id -> name.
        sizes: of images whose annotations state it, (width, height); the others have that of their file.
        folder: of a split without files.
    """

    def __init__(
        self,
        files: Sequence[Path],
        categories: Mapping[int, str],
        sizes: Mapping[Path, tuple[int, int]] | None = None,
        folder: Path = Path('.'),
    ) -> None:
        self.folder = Path(os.path.commonpath([os.path.abspath(p.parent) for p in files] or [folder]))
        self.categories = [dict(id=i, name=name) for i, name in categories.items()]
        self.violations: list[Violation] = []
        self._images: list[dict] = []
        self._files: list[Path] = []
        self._annotations: list[dict] = []
        self._stated: set[int] = set()  # images whose files may have another size: the rules compare
        known = sizes or {}
        unknown = [file for file in files if file not in known]
        opened = dict(zip(unknown, map_in_threads(_size, unknown), strict=True))
        for i, file in enumerate(files, start=1):
            width, height = known[file] if file in known else opened[file]
            if file in known:
                self._stated.add(i)
            name = os.path.relpath(os.path.abspath(file), self.folder).replace(os.sep, '/')
            if (width, height) == _UNKNOWN:
                rule = 'image-unreadable' if file.is_file() else 'image-missing'
                self.violations.append(Violation(COCO_RULES[rule], name))
                continue
            self._images.append(dict(id=i, file_name=name, width=width, height=height))
            self._files.append(file)

    def readable(self) -> Iterator[tuple[dict, Path]]:
        """Yield COCO's entry of each image, and its file."""
        return zip(self._images, self._files, strict=True)

    def add_box(self, image: Mapping, category: int, box: Sequence[float], *, crowd: bool = False) -> None:
        """Add an object with a box x, y, width, height, which is clipped to an image of known size."""
        self._add(image, category, box, iscrowd=int(crowd))

    def add_polygons(self, image: Mapping, category: int, polygons: Sequence[Sequence[float]]) -> None:
        """Add an object of one or more polygons, x y x y ..., whose extent is its box."""
        xs = [x for polygon in polygons for x in polygon[::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        rounded = [[round(value, 2) for value in polygon] for polygon in polygons]
        self._add(image, category, box, segmentation=rounded, area=sum(map(_area, polygons)))

    def add_mask(
        self, image: Mapping, category: int, code: Mapping, box: Sequence[float], area: float
    ) -> None:
        """Add an object whose mask is a run-length code."""
        self._add(image, category, box, segmentation=dict(code), area=area)

    def _add(self, image: Mapping, category: int, box: Sequence[float], **more: object) -> None:
        if image['id'] not in self._stated:
            box = self._clipped(image, box)
        elif min(box[2:]) <= 0:
            self._tell('box-flat', image, box)
        if min(box[2:]) > 0:
            box = [round(value, 2) for value in box]
            a = dict(id=len(self._annotations) + 1, image_id=image['id'], category_id=category, bbox=box)
            self._annotations.append(a | dict(area=box[2] * box[3], iscrowd=0) | more)

    def _clipped(self, image: Mapping, box: Sequence[float]) -> list[float]:
        """Return a box within its image; without width or height where there is nothing of it."""
        x, y, w, h = box
        x1, y1 = max(0.0, x), max(0.0, y)
        x2, y2 = min(float(image['width']), x + w), min(float(image['height']), y + h)
        clipped = [x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1)]
        out = max(-x, -y, x + w - image['width'], y + h - image['height'])
        rule = 'box-reaches-out' if out > SLACK else ''
        if min(clipped[2:]) <= 0.005:
            rule, clipped[2:] = 'box-outside' if min(w, h) > 0 else 'box-flat', [0.0, 0.0]
        if rule:
            self._tell(rule, image, box)
        return clipped

    def _tell(self, rule: str, image: Mapping, box: Sequence[float]) -> None:
        told = f'{image["file_name"]}: {[round(value, 2) for value in box]}'
        self.violations.append(Violation(COCO_RULES[rule], told))

    def split(self, name: str, path: Path, layout: str) -> CocoSplit:
        """Return what was collected; ``path``: where it was read."""
        content = dict(images=self._images, annotations=self._annotations, categories=self.categories)
        return CocoSplit(name, path, self.folder, content, layout=layout, violations=self.violations)


def _area(polygon: Sequence[float]) -> float:
    xs, ys = polygon[::2], polygon[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2


def _size(path: Path) -> tuple[int, int]:
    try:
        return image_size(path)
    except UserError:
        return _UNKNOWN
