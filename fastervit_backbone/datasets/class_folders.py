"""Class folders: the images of each class in a folder with its name."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..utils.errors import UserError
from ..utils.files import is_file
from ..utils.suggest import did_you_mean
from .image_files import IMAGES, walk_files
from .imagenet import SYNSETS, synsets
from .splits import SPLITS, split_of

NAME = 'images in one folder per class'
#: Names of folders that other layouts have, in lower case: never those of classes.
_NO_CLASS = {
    *('images', 'image', 'imgs', 'img', 'jpegimages', 'photos', 'pictures', 'data', 'obj_train_data'),
    *('masks', 'mask', 'labels', 'label', 'annotations', 'annotation', 'xml', 'xmls', 'json', 'jsons'),
    *('segmentationclass', 'segmentationobject', 'imagesets', 'gt', 'groundtruth', 'ground_truth'),
}
#: What a data set's ``folders`` may be: a name in SYNSETS, the folders' names in the order of the labels, or
#: None for all that exist.
Folders = str | Sequence[str] | None


def find(place: Path) -> dict[str, Path]:
    """Return the splits whose images lie in one folder per class; one without such splits is ``data``.

    Raises:
        UserError: of training and validation only one has such folders.
    """
    splits = {split_of([p.name]): p for p in sorted(place.iterdir()) if p.is_dir() and split_of([p.name])}
    splits = {name: splits[name] for name in SPLITS if name in splits}
    if not splits:
        return {'data': place} if _has_class_folders(place) else {}
    found = {split: folder for split, folder in splits.items() if _has_class_folders(folder)}
    classes = {name for folder in found.values() for name in _folders(folder)}
    for split, folder in splits.items() if found else ():
        if split in found or split == 'test':  # whose images may have no classes
            continue
        names = _folders(folder)
        stray = next((p for p in sorted(folder.iterdir()) if _is_image(p) and p.is_file()), None)
        if stray is not None or not names or not classes.issuperset(names):
            what = f'{stray} lies beside its folders' if stray else f'it has the folders {sorted(names)[:5]}'
            raise UserError(
                f'{folder} is the split {split}, and {what}: its images must be in folders of the classes '
                f'{", ".join(sorted(classes)[:5])}'
            )
        found[split] = folder
    return {name: found[name] for name in splits if name in found}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and not path.name.startswith('.')


def _folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')}


def _has_class_folders(folder: Path) -> bool:
    """Whether all images of a folder lie in two or more folders, none with a name of another layout."""
    if any(path.is_file() and _is_image(path) for path in folder.iterdir()):
        return False
    names = _folders(folder)
    classes = [name for name in names if any(map(_is_image, (folder / name).iterdir()))]
    return len(classes) > 1 and not any(name.lower() in _NO_CLASS or split_of([name]) for name in names)


def resolve_classes(
    root: str | Path, folders: Folders = None, classes: Sequence[str] | None = None, *, subset: bool = False
) -> tuple[list[str], list[str]]:
    """Return the folders of the classes and the classes' names, both in the order of the labels.

    Folders that are numbers are in numerical order, others in that of their names, as in torchvision's
    ImageFolder.

    Args:
        root: folder of the class folders.
        folders: see :data:`Folders`. Folders of ImageNet may also be named by the numbers of its classes
            (ImageNet-V2).
        classes: names; None: those of ImageNet, or of the folders.
        subset: only some of ``folders`` may exist (ImageNet-A, ImageNet-R): those are the classes.

    Raises:
        UserError: there are no folders of classes, one is missing or of no class, or there is only one.
    """
    root = Path(root)
    existing = _existing_folders(root)
    if isinstance(folders, str):
        if folders not in SYNSETS:
            raise UserError(
                f'folders={folders!r}: give the names of the folders, or one of {", ".join(SYNSETS)}'
            )
        names = synsets(folders)
        if all(name.isdecimal() for name in existing):
            names = {str(number): name for number, name in enumerate(names.values())}
    else:
        listed = existing if folders is None else list(folders)
        if classes is not None and len(classes) != len(listed):
            raise UserError(f'{root} has {len(listed)} classes, but {len(classes)} names are given')
        names = dict(zip(listed, classes or listed, strict=True))
    _check_folders(root, existing, names, subset)
    present = set(existing)
    chosen = [folder for folder in names if folder in present or not subset]
    if len(chosen) < 2:
        raise UserError(f'{root} has one class, {chosen[0]}: a classifier needs two or more')
    return chosen, [names[folder] for folder in chosen]


def _existing_folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise UserError(f'no folder at {os.path.abspath(root)}: correct the path or put the data there')
    entries = [entry for entry in os.scandir(root) if not entry.name.startswith('.')]
    found = [entry.name for entry in entries if entry.is_dir()]
    if not found:
        images = sum(Path(entry.name).suffix.lower() in IMAGES for entry in entries)
        raise UserError(
            f'{root} has no folders of classes ({images} images lie in it): move the images of each class '
            'into a folder with its name'
        )
    return sorted(found, key=int if all(name.isdecimal() for name in found) else None)


def _check_folders(root: Path, existing: Sequence[str], names: Mapping[str, str], subset: bool) -> None:
    unknown = [folder for folder in existing if folder not in names]
    if unknown:
        raise UserError(
            f'{root / unknown[0]}: {unknown[0]!r} is none of the {len(names)} classes'
            f'{did_you_mean(unknown[0], names)}: rename or remove the folder'
        )
    present = set(existing)
    missing = [folder for folder in names if folder not in present]
    if missing and not subset:
        raise UserError(
            f'{root} has no folder {missing[0]!r} ({len(missing)} of {len(names)} classes have none): create '
            'it, empty if the split has no image of the class'
        )


def list_images(root: str | Path, folders: Sequence[str]) -> list[tuple[str, int]]:
    """List (file, label) of all images below the folders, ordered by label, then name.

    Raises:
        UserError: there is none.
    """
    found = [
        (str(path), label)
        for label, folder in enumerate(folders)
        for path in walk_files(Path(root) / folder, IMAGES)
        if is_file(path)
    ]
    if not found:
        raise UserError(f'the folders in {root} contain no images ({", ".join(sorted(IMAGES))})')
    return found
