"""One data set of objects written in other ways; a form is a function of a few lines.

Each takes the folder of the original (``images/*.png`` and ``truth.json``) and an empty one, and returns what
``fastervit check-data`` would be given: a json and the folder of its images, or a folder in another layout.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

Form: TypeAlias = Callable[[Path, Path], tuple[Path, Path] | Path]
#: EXIF orientation -> how an upright image is stored.
_STORED = {
    3: lambda p: p[::-1, ::-1],
    6: lambda p: np.rot90(p, 1),
    8: lambda p: np.rot90(p, -1),
    5: lambda p: p.swapaxes(0, 1),
}


def content_of(root: Path) -> dict:
    return json.loads((root / 'truth.json').read_text())


def pixels_of(root: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(root / 'images' / name))


def write(out: Path, content: dict, images: Path, start: str = '') -> tuple[Path, Path]:
    path = out / 'other.json'
    path.write_text(start + json.dumps(content, ensure_ascii=False), encoding='utf-8')
    return path, images


def of_content(change: Callable[[dict], object], start: str = '') -> Form:
    """A form whose images stay."""

    def make(root: Path, out: Path) -> tuple[Path, Path]:
        content = content_of(root)
        change(content)
        return write(out, content, root / 'images', start)

    return make


def of_images(save: Callable[[np.ndarray, Path], str]) -> Form:
    """A form whose pixels are stored in another way; ``save`` returns the name of the file."""

    def make(root: Path, out: Path) -> tuple[Path, Path]:
        content = content_of(root)
        (out / 'images').mkdir()
        for image in content['images']:
            stem = out / 'images' / Path(image['file_name']).stem
            image['file_name'] = save(pixels_of(root, image['file_name']), stem)
        return write(out, content, out / 'images')

    return make


def renumber(content: dict, part: str, key: str, new: Callable[[int], object]) -> None:
    ids = {entry['id']: new(i) for i, entry in enumerate(content[part])}
    for entry in content[part]:
        entry['id'] = ids[entry['id']]
    for a in content['annotations']:
        a[key] = ids[a[key]]


def sparse_ids(content: dict) -> None:
    renumber(content, 'images', 'image_id', lambda i: 7**i + 90)
    renumber(content, 'categories', 'category_id', lambda i: 7**i + 90)


def restart_ids(content: dict) -> None:
    for image in content['images']:
        for i, a in enumerate(a for a in content['annotations'] if a['image_id'] == image['id']):
            a['id'] = i


def as_floats(content: dict) -> None:
    renumber(content, 'images', 'image_id', lambda i: float(i + 1))
    renumber(content, 'categories', 'category_id', lambda i: float(i + 1))
    for image in content['images']:
        image |= dict(width=float(image['width']), height=float(image['height']))


def as_run_lengths(content: dict) -> None:
    sizes = {image['id']: (image['height'], image['width']) for image in content['images']}
    for i, a in enumerate(content['annotations']):
        code = coco_mask.merge(coco_mask.frPyObjects(a['segmentation'], *sizes[a['image_id']]))
        if i % 2:
            a['segmentation'] = dict(size=list(code['size']), counts=code['counts'].decode())
        else:
            flat = coco_mask.decode(code).ravel(order='F')
            counts = np.diff([0, *np.flatnonzero(np.diff(flat)) + 1, flat.size]).tolist()
            a['segmentation'] = dict(size=list(code['size']), counts=[0, *counts] if flat[0] else counts)


def turned(suffix: str, turn: int, **options: object) -> Form:
    def save(pixels: np.ndarray, stem: Path) -> str:
        exif = Image.Exif()
        exif[0x0112] = turn
        stored = np.ascontiguousarray(_STORED[turn](pixels))
        Image.fromarray(stored).save(f'{stem}{suffix}', exif=exif, **options)
        return f'{stem.name}{suffix}'

    return of_images(save)


def saved(suffix: str, convert: Callable[[np.ndarray], Image.Image]) -> Form:
    def save(pixels: np.ndarray, stem: Path) -> str:
        convert(pixels).save(f'{stem}{suffix}')
        return f'{stem.name}{suffix}'

    return of_images(save)


def sixteen_bits(pixels: np.ndarray, stem: Path) -> str:
    import cv2

    cv2.imwrite(f'{stem}.png', pixels[..., ::-1].astype(np.uint16) * 257)
    return f'{stem.name}.png'


def rgba(pixels: np.ndarray) -> Image.Image:
    alpha = np.full((*pixels.shape[:2], 1), 90, np.uint8)
    return Image.fromarray(np.concatenate([pixels, alpha], 2))


def in_subfolders(root: Path, out: Path) -> tuple[Path, Path]:
    """The same name in several folders, one of them a link."""
    content = content_of(root)
    (out / 'elsewhere').mkdir()
    (out / 'images').mkdir()
    os.symlink(out / 'elsewhere', out / 'images' / 'link')
    for i, image in enumerate(content['images']):
        folder = 'link' if i % 2 else f'camera {i}'
        name = f'{folder}/{"frame" if i % 2 == 0 else i}.png'
        (out / 'images' / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / 'images' / image['file_name'], out / 'images' / name)
        image['file_name'] = name
    (out / 'images' / '._hidden.png').write_bytes(b'of an operating system')
    return write(out, content, out / 'images')


def yolo(root: Path, out: Path) -> Path:
    content = content_of(root)
    shutil.copytree(root / 'images', out / 'images')
    (out / 'labels').mkdir()
    index = {c['id']: i for i, c in enumerate(content['categories'])}
    for image in content['images']:
        w, h = image['width'], image['height']
        lines = []
        for a in (a for a in content['annotations'] if a['image_id'] == image['id']):
            points = [v / (w, h)[i % 2] for i, v in enumerate(a['segmentation'][0])]
            lines.append(' '.join(map(repr, [index[a['category_id']], *points])))
        (out / 'labels' / f'{Path(image["file_name"]).stem}.txt').write_text('\n'.join(lines))
    names = json.dumps([c['name'] for c in content['categories']], ensure_ascii=False)
    (out / 'data.yaml').write_text(f'train: images\nnames: {names}\n', encoding='utf-8')
    return out


def labelme(root: Path, out: Path) -> Path:
    content = content_of(root)
    names = {c['id']: c['name'] for c in content['categories']}
    for image in content['images']:
        shutil.copy(root / 'images' / image['file_name'], out)
        shapes = [
            dict(
                label=names[a['category_id']],
                shape_type='polygon',
                group_id=None,
                points=np.array(a['segmentation'][0]).reshape(-1, 2).tolist(),
            )
            for a in content['annotations']
            if a['image_id'] == image['id']
        ]
        entry = dict(imagePath=image['file_name'], imageHeight=image['height'], imageWidth=image['width'])
        text = json.dumps(entry | dict(shapes=shapes), ensure_ascii=False)
        (out / f'{Path(image["file_name"]).stem}.json').write_text(text, encoding='utf-8')
    return out


FORMS: dict[str, Form] = {
    'categories in another order': of_content(lambda c: c['categories'].reverse()),
    'category ids from 0': of_content(lambda c: renumber(c, 'categories', 'category_id', lambda i: i)),
    'sparse ids': of_content(sparse_ids),
    'ids of 40 bits': of_content(lambda c: renumber(c, 'images', 'image_id', lambda i: 2**40 + i)),
    'floats': of_content(as_floats),
    'byte order mark': of_content(lambda c: None, start='\ufeff'),
    'images in another order': of_content(lambda c: [c[key].reverse() for key in ('images', 'annotations')]),
    'run lengths': of_content(as_run_lengths),
    'an unused class': of_content(lambda c: c['categories'].insert(1, dict(id=99, name='unused'))),
    'subfolders and links': in_subfolders,
    'PNG turned by EXIF': turned('.png', 6),
    'TIFF turned by EXIF': turned('.tif', 8),
    'WebP turned by EXIF': turned('.webp', 5, lossless=True),
    'TIFF upside down': turned('.tiff', 3),
    '16 bits': of_images(sixteen_bits),
    'RGBA': saved('.png', rgba),
    'BMP': saved('.bmp', Image.fromarray),
    'YOLO': yolo,
    'labelme': labelme,
}
#: Forms that are refused: (change of the content, the rule).
REFUSED: dict[str, tuple[Callable[[dict], object], str]] = {
    'ids that restart': (restart_ids, 'annotation-id-twice'),
    'ids above 2**53': (lambda c: renumber(c, 'images', 'image_id', lambda i: 2**60 + i), 'image-id-huge'),
    'texts as ids': (lambda c: renumber(c, 'images', 'image_id', str), 'image-bad'),
    'crowds only': (lambda c: [a.update(iscrowd=1) for a in c['annotations']], 'all-crowds'),
}
