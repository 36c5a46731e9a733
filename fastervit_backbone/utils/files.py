"""Whether what a person asked for can be written, said before the work is done."""

import os
from pathlib import Path

from .errors import UserError


def check_folder_writable(option: str, folder: str | Path) -> None:
    """Raise UserError unless ``folder`` is, or can become, a folder that this process may write."""
    place = Path(os.path.abspath(folder))
    while not place.exists():
        if place.is_symlink():
            raise UserError(f'{option} {folder}: {place} is a link to what is not there')
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f'{option} {folder}: cannot write to {place}' + ('' if place.is_dir() else ', which is a file'))


def check_file_writable(option: str, path: str | Path) -> None:
    """Raise UserError unless ``path`` is, or can become, a file that this process may write."""
    if Path(path).is_dir():
        raise UserError(f'{option} {path} is a folder: name a file, in it or elsewhere')
    check_folder_writable(option, Path(path).parent)
