"""Say of a folder in no known layout which one it comes near, and what to do."""

from collections.abc import Sequence
from pathlib import Path

from ...utils.errors import UserError
from ...utils.files import read_json
from ..images import IMAGES

#: Names of folders that other layouts have, in lower case: never those of classes.
NO_CLASS = {
    *('images', 'image', 'imgs', 'img', 'jpegimages', 'photos', 'pictures', 'data', 'obj_train_data'),
    *('masks', 'mask', 'labels', 'label', 'annotations', 'annotation', 'xml', 'xmls', 'json', 'jsons'),
    *('segmentationclass', 'segmentationobject', 'imagesets', 'gt', 'groundtruth', 'ground_truth'),
}
_NONE = (
    'holds no COCO json, no images/ and labels/ folders, no JPEGImages/ and Annotations/, and no two or more '
    'folders of images with the names of classes: name the splits with --train, --val and --images'
)


def nearest_layout(place: Path, jsons: Sequence[Path]) -> str:
    """Return one line: the layout that a folder comes near, and what to do.

    Args:
        place: the folder.
        jsons: in it, none of them COCO.
    """
    broken = next(filter(is_broken, jsons), None)
    if broken is not None:
        return (
            f'{broken} is broken JSON: download or write it again; nothing else in {place} names its objects'
        )
    yaml = next((p for p in (place / 'data.yaml', place / 'data.yml') if p.is_file()), None)
    if yaml is not None:
        return f'{place} is in YOLO format: python tools/convert_data.py yolo {yaml} --out jsons first'
    folders = {p.name.lower(): p for p in place.iterdir() if p.is_dir()}
    if 'jpegimages' in folders and 'segmentationclass' in folders:
        masks, images = folders['segmentationclass'], folders['jpegimages']
        return (
            f'{place} is VOC with SegmentationClass: python tools/convert_data.py masks {masks} --colors '
            f'classes.txt --out labels makes label maps of it, then name them and --images {images}'
        )
    xml = next((p for p in sorted(place.rglob('*')) if p.suffix.lower() == '.xml'), None)
    if xml is not None:
        return (
            f"{place} has .xml files in {xml.parent}: LabelImg's layout is VOC without its "
            'folders: move the images into JPEGImages/ and the .xml files into Annotations/'
        )
    text = next((p for p in place.rglob('*.txt') if _is_yolo(p)), None)
    if text is not None:
        return (
            f'{place} has YOLO labels, such as {text.relative_to(place)}, and no data.yaml: write one with '
            'path, train, val and names, then name it'
        )
    masks = next((folders[n] for n in ('masks', 'labels', 'annotations') if n in folders), None)
    images = next((folders[n] for n in ('images', 'imgs', 'image') if n in folders), None)
    found = sorted({p.suffix.lower() for p in masks.rglob('*')} & set(IMAGES)) if masks else []
    if masks is not None and images is not None and found:
        return (
            f'{place} has images and, in {masks.name}/, masks as {", ".join(found)}: label maps are .png '
            'files of class numbers with the names of their images: python tools/convert_data.py masks '
            f'{masks} --out labels'
        )
    others = ''.join(f'; {path.name} is no COCO json' for path in jsons[:1])
    return f'{place} {_NONE}{others}'


def is_broken(path: Path) -> bool:
    """Whether a file is no valid JSON."""
    try:
        read_json(path, '')
    except UserError:
        return True
    return False


def _is_yolo(path: Path) -> bool:
    """Whether the first line of a text file is a class and at least four numbers."""
    try:
        with path.open(encoding='utf-8', errors='replace') as file:
            words = file.readline().split()
        return len(words) >= 5 and words[0].isdigit() and all(0 <= float(w) <= 1.5 for w in words[1:5])
    except (OSError, ValueError):
        return False
