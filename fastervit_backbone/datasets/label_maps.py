"""Label maps: ``images/`` and ``labels/`` (or ``annotations/``, ``masks/``) with PNGs of class numbers."""

from pathlib import Path

from ..utils.errors import UserError
from .image_files import IMAGES, images_below
from .splits import SPLITS, split_of

NAME = 'label maps'
_LABELS, _PICTURES = ('labels', 'annotations', 'masks'), ('images', 'imgs', 'image')
#: Files beside label maps that name the values 0, 1, ..., one a line.
NAME_FILES = ('classes.txt', 'labels.txt', 'names.txt')


def find(place: Path) -> dict[str, tuple[Path, Path]]:
    """Return split -> (folder of label maps, folder of images); without splits ``data``, or empty.

    Raises:
        UserError: a split has only one of the two.
    """
    images, labels = _first(place, _PICTURES), _first(place, _LABELS)
    if labels is None or images is None or not any(p.suffix == '.png' for p in images_below(labels)):
        return {}
    sides = [_folders_of_splits(side) for side in (labels, images)]
    names = [[name for name in SPLITS if name in side] for side in sides]
    if names[0] != names[1]:
        missing = next(name for name in SPLITS if (name in names[0]) != (name in names[1]))
        other = images if missing in names[0] else labels
        if missing != 'test':  # which may have no labels
            raise UserError(f'{other} has no folder of the split {missing}, which the other side has: add it')
    both = [name for name in SPLITS if name in names[0] and name in names[1]]
    return {name: (sides[0][name], sides[1][name]) for name in both} or {'data': (labels, images)}


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
        f'files of class numbers with the names of their images: fastervit convert-data masks {masks} '
        '--out labels'
    )


def _folders_of_splits(side: Path) -> dict[str, Path]:
    return {split_of([path.name]): path for path in sorted(side.iterdir()) if path.is_dir()}


def _first(place: Path, names: tuple[str, ...]) -> Path | None:
    folders = {p.name.lower(): p for p in place.iterdir() if p.is_dir()}
    return next((folders[name] for name in names if name in folders), None)
