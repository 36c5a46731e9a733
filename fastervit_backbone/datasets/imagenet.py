"""Folders and names of ImageNet's classes, from the lists that timm has."""

from collections import Counter
from functools import lru_cache

#: Name of a list -> timm's.
SYNSETS = {'imagenet-1k': 'imagenet-1k', 'imagenet-21k': 'imagenet-22k'}

#: Number of classes of ImageNet-1K.
IMAGENET_CLASSES = 1000


@lru_cache
def synsets(name: str) -> dict[str, str]:
    """Return the folder of every class (``n01440764``) with its name, in the order of the labels.

    A name is the first of WordNet's; one that several classes have is followed by the folder.

    Args:
        name: in :data:`SYNSETS`.
    """
    from timm.data.imagenet_info import ImageNetInfo  # takes a second

    info = ImageNetInfo(SYNSETS[name])
    folders = info.label_names()
    first = [text.split(',')[0] for text in info.label_descriptions()]
    count = Counter(first)
    return {
        folder: text if count[text] == 1 else f'{text} ({folder})'
        for folder, text in zip(folders, first, strict=True)
    }
