"""One source of a run, and the entry of an image in COCO's json."""

from dataclasses import dataclass

import numpy as np

from ..inference.sources import Source


@dataclass(frozen=True)
class Task:
    """A source that is not done yet.

    Args:
        source: the file.
        number: of the source in the run.
        name: in the json.
        stem: of its pictures.
    """

    source: Source
    number: int
    name: str
    stem: str


#: Tasks and their pixels.
Batch = tuple[list[Task], list[np.ndarray]]


def image_entry(name: str, size: tuple[int, int], **extra: int | None) -> dict:
    """COCO's entry of an image; one without ``id`` gets its id at the end."""
    return dict(extra, file_name=name, height=size[0], width=size[1])
