"""Convert masks as people have them to label maps, and label maps to COCO and back; exact to the pixel."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from ..structures.polygons import connected_parts, outline_of
from ..utils.errors import UserError
from ..utils.files import replacing
from .coco import read_coco
from .image_files import images_below, map_in_threads
from .image_headers import open_image
from .multichannel import channels_of
from .validation.label_maps import IGNORED, LabelMapSplit, pair_files

#: Color -> (value, class name).
Colors = Mapping[tuple[int, int, int], tuple[int, str]]


def read_colors(path: str | Path) -> dict[tuple[int, int, int], tuple[int, str]]:
    """Read a file with a class a line: its color, ``R G B`` or ``#rrggbb``, and its name, in either order.

    The first line is value 0, and so on; lines of the same name share a value; one named ``ignore`` or
    ``void`` is 255.

    Raises:
        UserError: names the line that is not a color and a name.
    """
    colors: dict[tuple[int, int, int], tuple[int, str]] = {}
    values: dict[str, int] = {}
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'--colors {path}: {getattr(error, "strerror", None) or error}') from error
    for number, line in enumerate(lines, 1):
        text = re.sub(r'[,;:\t"\']+', ' ', line).strip()
        if not text or text.startswith('# '):
            continue
        found = re.search(r'(?<!\S)(?:#([0-9a-fA-F]{6})|(\d{1,3}) +(\d{1,3}) +(\d{1,3}))(?!\S)', text)
        name = '' if found is None else ' '.join((text[: found.start()] + text[found.end() :]).split())
        if found is None or not name or re.search(r'^\d+\b|\b\d+$', name):  # an index beside the color
            raise UserError(f'{path}, line {number}: {line.strip()[:60]!r} is not a color (R G B) and a name')
        rgb = tuple(bytes.fromhex(found[1])) if found[1] else tuple(int(v) for v in found.groups()[1:])
        if max(rgb) > 255 or rgb in colors:
            reason = 'is the color of two lines' if rgb in colors else 'has a number above 255'
            raise UserError(f'{path}, line {number}: {" ".join(map(str, rgb))} {reason}')
        if name.lower() in ('ignore', 'void'):
            values[name] = IGNORED
        elif name not in values:
            values[name] = len([v for v in values.values() if v != IGNORED])
            if values[name] >= IGNORED:
                raise UserError(f'{path}, line {number}: a label map holds at most {IGNORED} classes')
        colors[rgb[0], rgb[1], rgb[2]] = values[name], name
    if not colors:
        raise UserError(f'--colors {path}: no colors in it')
    return colors


def convert_masks(
    folder: str | Path, out: str | Path, values: Mapping[int, int] | None = None, colors: Colors | None = None
) -> Counter[int]:
    """Write each mask below a folder as a label map: a ``.png`` of one channel, of the same name.

    Args:
        folder: of masks: gray, black and white, with a palette, or with colors; any suffix of images.
        out: folder to write to; with ``colors`` also ``classes.txt``.
        values: value in a mask -> value in the label map; others are kept.
        colors: of the classes; required for masks with colors, and used for palettes.

    Returns:
        value in the label maps -> pixels.

    Raises:
        UserError: names the mask, and the value or color that is not known. Nothing is written then.
    """
    folder, out = Path(folder), Path(out)
    files = images_below(folder)
    if not files:
        raise UserError(f'{folder}: no masks')
    names = Counter(p.relative_to(folder).with_suffix('.png') for p in files)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UserError(f'{folder}: two masks would be {twice}: keep one of them')

    def check(path: Path) -> Counter[int]:
        found, counts = np.unique(_label_map(path, values or {}, colors), return_counts=True)
        return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def write(path: Path) -> None:
        _write(_label_map(path, values or {}, colors), out / path.relative_to(folder).with_suffix('.png'))

    total: Counter[int] = Counter()
    for counts in map_in_threads(check, files):
        total += counts
    for _ in map_in_threads(write, files):
        pass
    if colors is not None:
        _write_classes(out, dict.fromkeys(name for value, name in colors.values() if value != IGNORED))
    return total


def _label_map(path: Path, values: Mapping[int, int], colors: Colors | None) -> np.ndarray:
    """Read a mask as values (H, W), uint8."""
    with open_image(path) as image:
        if colors is not None:
            return _from_colors(np.asarray(image.convert('RGB')), colors, path)
        pixels, is_lossy = np.asarray(image), image.format == 'JPEG'
        if image.mode == '1':
            pixels = pixels.astype(np.uint8)
    if pixels.dtype.kind == 'f' and (fractions := pixels[pixels != np.round(pixels)]).size:
        raise UserError(f'{path} has fractions such as {fractions[0]:g}: write whole values')
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        colors_of, alpha = pixels[..., :-1], pixels[..., -1]
        if (colors_of == colors_of[0, 0]).all() and (alpha != alpha[0, 0]).any():
            raise UserError(f'{path} has its mask in the alpha channel: write it as a gray PNG')
    if pixels.ndim == 3:
        gray, rest = pixels[..., 0], pixels[..., 1:3] if pixels.shape[2] > 2 else pixels[..., :1]
        if (rest != gray[..., None]).any():
            raise UserError(f'{path} has colors: name them with --colors FILE, a line "R G B name" for each')
        pixels = gray
    unknown = sorted(set(np.unique(pixels).tolist()) - {0, *values}) if is_lossy else []
    if unknown:
        found = ', '.join(map(str, unknown[:4]))
        raise UserError(
            f'{path} is a JPEG, whose compression changes values: it holds {found}, which nobody named: '
            'write masks as PNG'
        )
    mapped = pixels.astype(np.int64)
    for value, label in values.items():
        mapped[pixels == value] = label
    if mapped.min() < 0 or mapped.max() > IGNORED:
        wrong = mapped[(mapped < 0) | (mapped > IGNORED)][0]
        raise UserError(f'{path} has the value {wrong}: map it to 0 to 255, as in --map {wrong}:1')
    return mapped.astype(np.uint8)


def _from_colors(rgb: np.ndarray, colors: Colors, path: Path) -> np.ndarray:
    keys = (rgb.astype(np.int64) * (65536, 256, 1)).sum(2)
    known = {(r << 16) + (g << 8) + b: value for (r, g, b), (value, _) in colors.items()}
    found, index = np.unique(keys, return_inverse=True)
    unknown = next((int(key) for key in found if int(key) not in known), None)
    if unknown is not None:
        y, x = np.argwhere(keys == unknown)[0]
        color = f'{unknown >> 16} {unknown >> 8 & 255} {unknown & 255}'
        raise UserError(f'{path}: the color {color} at x {x}, y {y} is not in the --colors file: add a line')
    return np.array([known[int(key)] for key in found], np.uint8)[index].reshape(keys.shape)


def coco_to_label_maps(path: str | Path, out: str | Path) -> Counter[int]:
    """Draw the objects of a COCO json: value 0 is background, 1 the first category; smaller objects on top.

    Crowds become 255 where no object is.

    Args:
        path: the json; every object has a segmentation.
        out: folder of the label maps, and of ``classes.txt``.

    Returns:
        value -> pixels.

    Raises:
        UserError: an object has no segmentation, or there are more than 254 categories.
    """
    content = read_coco(Path(path))
    try:
        return _draw_objects(content, path, Path(out))
    except UserError:
        raise
    except Exception as error:  # pycocotools raises anything
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
        raise UserError(
            f'{path} is no valid COCO ({reason}): fastervit check-data lists what is wrong'
        ) from error


def _draw_objects(content: dict, path: str | Path, out: Path) -> Counter[int]:
    categories = content['categories']
    if len(categories) >= IGNORED:
        raise UserError(f'{path} has {len(categories)} categories: a label map holds at most {IGNORED - 1}')
    without = next((a for a in content['annotations'] if not a.get('segmentation')), None)
    if without is not None:
        raise UserError(f'{path}: annotation {without["id"]} has no segmentation: label maps need masks')
    images = content['images']
    targets = Counter(Path(str(image['file_name'])).with_suffix('.png') for image in images)
    for target, count in targets.items():
        if target.is_absolute() or '..' in target.parts:
            raise UserError(
                f'{path}: the file name {target.with_suffix("")}... leaves the folder of the images'
            )
        if count > 1:
            raise UserError(f'{path}: two images would have the label map {target}: rename one of them')
    values = {category['id']: i for i, category in enumerate(categories, 1)}
    wrong = next((a for a in content['annotations'] if a['category_id'] not in values), None)
    if wrong is not None:
        raise UserError(f'{path}: annotation {wrong["id"]} has the unknown category {wrong["category_id"]}')
    if not all(image.get('height') and image.get('width') for image in images):
        raise UserError(f'{path}: an image has no height and width: fastervit check-data --fix writes them')
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    total: Counter[int] = Counter()
    for image in images:
        label_map = np.zeros((image['height'], image['width']), np.uint8)
        masks = [(a, coco.annToMask(a).astype(bool)) for a in coco.imgToAnns[image['id']]]
        for a, mask in sorted(masks, key=lambda pair: (not pair[0].get('iscrowd'), -pair[1].sum())):
            label_map[mask] = IGNORED if a.get('iscrowd') else values[a['category_id']]
        _write(label_map, out / Path(image['file_name']).with_suffix('.png'))
        total += Counter({value: int(n) for value, n in enumerate(np.bincount(label_map.ravel())) if n})
    _write_classes(out, ['background', *(str(category['name']) for category in categories)])
    return total


def label_maps_to_coco(images: str | Path, labels: str | Path, classes: Sequence[str]) -> dict:
    """Return a COCO json whose objects are the connected regions of label maps, with exact polygons.

    Args:
        images: folder.
        labels: folder of label maps of the same names.
        classes: names of the values 0, 1, ...; one named ``background`` is no object, nor is 255.

    Raises:
        UserError: no pair of image and label map, or a value that has no name.
    """
    pairs, only_images, only_labels = pair_files(LabelMapSplit('data', Path(images), Path(labels)))
    if not pairs:
        raise UserError(f'{labels} has no label map (.png) named like an image in {images}')
    if only_images or only_labels:
        where, name = (images, only_images[0]) if only_images else (labels, only_labels[0])
        raise UserError(f'{where}: {name} has no {"label map" if only_images else "image"} of its name')
    entries, annotations = [], []
    for number, (image, path) in enumerate(pairs, 1):
        label_map = _label_map(path, {}, None)
        h, w = label_map.shape
        found = channels_of(image)
        size, turn = found.size, found.orientation
        if size != (w, h) or turn > 1:
            turned = f', which EXIF turns (orientation {turn})' if turn > 1 else ''
            raise UserError(
                f'{path} has {w}x{h} pixels, its image {size[0]}x{size[1]}{turned}: write both upright '
                'and of one size'
            )
        name = image.relative_to(images).as_posix()
        entries.append(dict(id=number, file_name=name, height=h, width=w))
        for value in np.unique(label_map[label_map != IGNORED]).tolist():
            if value >= len(classes):
                raise UserError(f'{path} has the value {value}, and --classes names 0 to {len(classes) - 1}')
            if classes[value].lower() == 'background':
                continue
            for part, corner in connected_parts(label_map == value):
                a = dict(id=len(annotations) + 1, image_id=number, category_id=value, iscrowd=0)
                a |= dict(bbox=[*corner, *part.shape[::-1]], area=int(part.sum()))
                annotations.append(a | dict(segmentation=[outline_of(part, corner)]))
    named = [dict(id=i, name=n) for i, n in enumerate(classes) if n.lower() != 'background']
    return dict(images=entries, annotations=annotations, categories=named)


def _write(label_map: np.ndarray, path: Path) -> None:
    with replacing(path) as temporary:
        Image.fromarray(label_map).save(temporary, format='PNG')


def _write_classes(out: Path, names: Sequence[str] | Mapping[str, object]) -> None:
    with replacing(out / 'classes.txt') as temporary:
        temporary.write_text(''.join(f'{name}\n' for name in names))
