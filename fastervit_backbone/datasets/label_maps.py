"""Label maps: ``images/`` and ``labels/`` (or ``annotations/``, ``masks/``) with PNGs of class numbers."""

from pathlib import Path

from .images import IMAGES, images_below
from .splits import SPLITS

NAME = 'label maps'
_LABELS, _PICTURES = ('labels', 'annotations', 'masks'), ('images', 'imgs', 'image')
#: Files beside label maps that name the values 0, 1, ..., one a line.
NAME_FILES = ('classes.txt', 'labels.txt', 'names.txt')


def find(place: Path) -> dict[str, tuple[Path, Path]]:
    """Return split -> (folder of label maps, folder of images); without splits ``data``, or empty."""
    images, labels = place / 'images', _first(place, _LABELS)
    if labels is None or not images.is_dir() or not any(p.suffix == '.png' for p in images_below(labels)):
        return {}
    found = {
        split: (labels / name, images / name)
        for split, names in SPLITS.items()
        for name in names
        if (images / name).is_dir() and (labels / name).is_dir()
    }
    return found or {'data': (labels, images)}


def near(place: Path) -> str:
    """Say what a folder lacks to be in this layout; '' where it is nothing of the kind."""
    images, masks = _first(place, _PICTURES), _first(place, _LABELS)
    if masks is None or images is None:
        return ''
    found = sorted({p.suffix.lower() for p in masks.rglob('*')} & set(IMAGES))
    if not found:
        return ''
    return (
        f'{place} has images and, in {masks.name}/, masks as {", ".join(found)}: label maps are .png '
        f'files of class numbers with the names of their images: python tools/convert_data.py masks {masks} '
        '--out labels'
    )


def _first(place: Path, names: tuple[str, ...]) -> Path | None:
    folders = {p.name.lower(): p for p in place.iterdir() if p.is_dir()}
    return next((folders[name] for name in names if name in folders), None)
