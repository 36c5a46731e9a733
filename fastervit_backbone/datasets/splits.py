"""Names by which folders and files call the splits of a data set."""

from collections.abc import Sequence

#: A split's name -> how folders and files call it.
SPLITS = {
    'train': ('train', 'training', 'train2017'),
    'val': ('val', 'valid', 'validation', 'val2017'),
    'test': ('test', 'testing', 'test2017'),
}


def split_name(text: str) -> str:
    """Return the split that a name of a file or folder speaks of, or ''."""
    words = set(text.lower().replace('-', '_').replace('.', '_').split('_'))
    return next((split for split, names in SPLITS.items() if words & set(names)), '')


def split_of(folders: Sequence[str]) -> str:
    """Return the split that one of these folders is called after, or ''."""
    return next((s for folder in folders for s, names in SPLITS.items() if folder.lower() in names), '')
