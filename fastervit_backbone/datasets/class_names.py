"""Read files of class names: one a line, perhaps with its number before it."""

import re
from pathlib import Path

from ..utils.errors import UserError
from ..utils.files import read_text

_NUMBERED = re.compile(r'(\d+)[\s:,;.)-]+(\S.*)')


def read_class_names(path: str | Path) -> list[str]:
    """Return the names in a file, in order; a byte order mark and empty lines are left out.

    Where every line starts with its number, 0, 1, ..., the numbers are left out, too.

    Raises:
        UserError: it cannot be read, has no name or one twice, or numbers that are not 0, 1, ...
    """
    lines = [line.strip() for line in read_text(Path(path)).splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(numbered):
        numbers = [int(match[1]) for match in numbered if match]
        if numbers != list(range(len(numbers))):
            raise UserError(
                f'{path}: its numbers are {", ".join(map(str, numbers[:4]))}, ..., and lines are the classes '
                '0, 1, ... in order: sort and number them so, or leave the numbers out'
            )
        lines = [match[2] for match in numbered if match]
    if not lines:
        raise UserError(f'{path} names no class: write one name a line')
    twice = next((name for name in lines if lines.count(name) > 1), None)
    if twice is not None:
        raise UserError(f'{path} names {twice!r} twice: give each class its own name')
    return lines
