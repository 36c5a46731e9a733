"""Generate the demo's data set: circles, squares and triangles over textures, as COCO and label maps."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..structures.prediction import encode_mask
from ..utils.errors import UserError
from ..utils.files import check_folder_writable
from .panoptic import as_pixels

CLASSES = ('circle', 'square', 'triangle')
#: An object is not drawn if it would leave less than this part of another visible.
MIN_VISIBLE = 0.7


def make_shapes(
    root: str | Path, train: int = 700, val: int = 50, size: tuple[int, int] = (128, 160), seed: int = 0
) -> Path:
    """Write the data set, unless it exists already with the same parameters.

    Layout: ``images/{train,val}/*.png``, ``annotations/instances_{train,val}.json`` (COCO, masks as RLE,
    category ids 1..3), ``labels/{train,val}/*.png`` (0 background, 1..3 the classes, for segmentation), and
    ``annotations/panoptic_{train,val}.json`` with ``panoptic/{train,val}/*.png`` (id 4: the background).

    Args:
        root: folder to create; it appears complete or not at all.
        train: number of training images.
        val: number of validation images.
        size: (height, width) in pixels, each at least 64.
        seed: random seed; the same seed gives the same pixels.

    Returns:
        ``root``.

    Raises:
        UserError: a size or count out of range, or the folder exists and holds something else.
    """
    root = Path(root)
    if min(train, val) < 1 or min(size) < 64:
        raise UserError(
            f'shapes need at least 1 image per split and 64 pixels per side, got train={train}, '
            f'val={val}, size={size}'
        )
    numbers = dict(train=train, val=val, size=list(size), seed=seed, version=2)
    stamp = root / 'shapes.json'
    if stamp.is_file() and _read_stamp(stamp) == numbers:
        return root
    if root.exists() and not stamp.is_file() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f'{root} is not empty and not a shapes data set: name another folder')
    check_folder_writable('root', root)
    building = root.with_name(root.name + '.building')
    shutil.rmtree(building, ignore_errors=True)
    rng = np.random.default_rng(seed)
    try:
        for split, count in (('train', train), ('val', val)):
            _write_split(building, split, count, size, rng)
        (building / stamp.name).write_text(json.dumps(numbers))
        shutil.rmtree(root, ignore_errors=True)
        building.rename(root)
    except OSError as error:
        raise UserError(
            f'shapes cannot be written to {root} ({error.strerror}): name another folder'
        ) from error
    return root


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f'{path} is broken ({error}): remove {path.parent}, or name another folder'
        ) from error


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Draw one image.

    Args:
        rng: random generator; advanced.
        size: (height, width).

    Returns:
        RGB image (H, W, 3) uint8, and per object its class (0..2) and its visible part, (H, W) bool; masks
        do not overlap.
    """
    height, width = size
    image = _texture(rng, size)
    objects: list[tuple[int, np.ndarray]] = []
    for _ in range(rng.integers(2, 6)):
        label = int(rng.integers(len(CLASSES)))
        radius = rng.uniform(0.15, 0.27) * min(size)
        center = rng.uniform(0.6 * radius, np.array(size) - 0.6 * radius)
        mask = _shape(label, center, radius, rng.uniform(-0.25, 0.25), size)
        covered = [(c, m & ~mask, m.sum()) for c, m in objects]
        if any(m.sum() < MIN_VISIBLE * whole for _, m, whole in covered):
            continue  # would hide another object
        objects = [(c, m) for c, m, _ in covered] + [(label, mask)]
        color = _contrasting(rng, image[mask].mean(0)) + _noise(rng, size, 4)[..., None] * 20
        image = np.where(mask[..., None], color, image)
    image = image + rng.normal(0, 6, (height, width, 1))
    return np.clip(image, 0, 255).astype(np.uint8), objects


def _write_split(root: Path, split: str, count: int, size: tuple[int, int], rng: np.random.Generator) -> None:
    for folder in ('images', 'labels', 'panoptic'):
        (root / folder / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    images, annotations, panoptic = [], [], []
    for i in range(1, count + 1):
        image, objects = draw_scene(rng, size)
        name = f'{i:06d}.png'
        label_map = np.zeros(size, np.uint8)
        ids, found = np.full(size, len(objects) + 1), []
        for number, (label, mask) in enumerate(objects, 1):
            label_map[mask], ids[mask] = label + 1, number
            code = encode_mask(mask)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=label + 1,
                    bbox=[int(v) for v in coco_mask.toBbox(code)],
                    area=int(coco_mask.area(code)),
                    iscrowd=0,
                    segmentation=dict(code, counts=code['counts'].decode()),
                )
            )
            found.append({k: annotations[-1][k] for k in ('category_id', 'bbox', 'area', 'iscrowd')})
        background = encode_mask(label_map == 0)
        box, area = [int(v) for v in coco_mask.toBbox(background)], int(coco_mask.area(background))
        found.append(dict(category_id=len(CLASSES) + 1, bbox=box, area=area, iscrowd=0))
        segments = [dict(id=number, **segment) for number, segment in enumerate(found, 1)]
        panoptic.append(dict(image_id=i, file_name=name, segments_info=segments))
        Image.fromarray(image).save(root / 'images' / split / name)
        Image.fromarray(label_map).save(root / 'labels' / split / name)
        Image.fromarray(as_pixels(ids)).save(root / 'panoptic' / split / name)
        images.append(dict(id=i, file_name=name, height=size[0], width=size[1]))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    path = root / 'annotations' / f'instances_{split}.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    categories = [dict(category, isthing=1) for category in categories]
    categories.append(dict(id=len(CLASSES) + 1, name='background', isthing=0))
    path = root / 'annotations' / f'panoptic_{split}.json'
    path.write_text(json.dumps(dict(images=images, annotations=panoptic, categories=categories)))


def _shape(label: int, center: np.ndarray, radius: float, angle: float, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) bool: a circle, or a regular polygon as the intersection of half planes."""
    y, x = np.mgrid[: size[0], : size[1]]
    dy, dx = y + 0.5 - center[0], x + 0.5 - center[1]
    if CLASSES[label] == 'circle':
        return dx**2 + dy**2 <= radius**2
    sides = {'square': 4, 'triangle': 3}[CLASSES[label]]
    apothem = radius * (0.85 if sides == 4 else 0.6)
    normals = angle + np.pi / 2 + 2 * np.pi * np.arange(sides) / sides
    return np.all([dx * np.cos(a) + dy * np.sin(a) <= apothem for a in normals], axis=0)


def _contrasting(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """Return a color at least 70 gray levels from ``background`` in some channel."""
    while True:
        color = rng.uniform(20, 235, 3)
        if np.abs(color - background).max() >= 70:
            return color


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Return (H, W) smooth noise, about -1..1: ``cells`` x ``cells`` random values, bilinearly enlarged."""
    values = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(values.resize(size[::-1], Image.Resampling.BILINEAR), np.float64)


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a (H, W, 3) float background: smooth noise at three scales and stripes."""
    y, x = np.mgrid[: size[0], : size[1]]
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 24)
    stripes = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    image = rng.uniform(70, 185, 3) + 14 * stripes[..., None] * rng.uniform(0, 1, 3)
    for cells in (3, 8, 24):
        image = image + 18 * _noise(rng, size, cells)[..., None] * rng.uniform(-1, 1, 3)
    return image
