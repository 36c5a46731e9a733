"""Images of classification: one folder per class."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastervit_cli.suggest import did_you_mean

from ..utils.errors import UserError
from .imagenet import SYNSETS, synsets
from .images import IMAGES

#: What a data set's ``folders`` may be: a name in SYNSETS, the folders' names in the order of the labels, or
#: None for all that exist.
Folders = str | Sequence[str] | None


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
    found = []
    for label, folder in enumerate(folders):
        for directory, subfolders, files in os.walk(Path(root) / folder):
            subfolders.sort()
            found += [
                (os.path.join(directory, file), label)
                for file in sorted(files)
                if os.path.splitext(file)[1].lower() in IMAGES and not file.startswith('.')
            ]
    if not found:
        raise UserError(f'the folders in {root} contain no images ({", ".join(sorted(IMAGES))})')
    return found
