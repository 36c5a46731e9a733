"""The rules for images in one folder per class."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...utils.errors import UserError
from ..class_folders import list_images, resolve_classes
from ..rules import FOLDER_RULES, Violation
from .findings import Collector, Finding, repeated_content
from .image_files import PixelKinds, Read, look_all


@dataclass
class FolderSplit:
    """A split whose images lie in one folder per class.

    Args:
        name: 'train', 'val', ...
        folder: of the class folders.
        images: class -> its images; filled by :func:`check_folder_split`.
        hashes: content of an image file -> its names.
        sizes: image -> (width, height), of those that could be read.
        files: image -> its class.
        findings: filled by :func:`check_folder_split`.
        kinds: channels, numbers and bits of the images.
        notes: of the reader.
    """

    name: str
    folder: Path
    images: Counter[str] = field(default_factory=Counter)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    kinds: PixelKinds = field(default_factory=PixelKinds)
    notes: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Tell where it is."""
        return f'{self.folder} (images in {self.folder})'

    def check(self, read: Read = 'all', values: object = None) -> list[Finding]:
        """Call :func:`check_folder_split`."""
        return check_folder_split(self, read=read)

    def counts(self) -> Counter[str]:
        """Return the images of each class."""
        return self.images


def check_folder_split(split: FolderSplit, *, read: Read = 'all') -> list[Finding]:
    """Check a split against every rule that concerns one split.

    Args:
        split: all but its name and folder is filled.
        read: of the image files.

    Returns:
        the findings, errors first.

    Raises:
        UserError: there are no folders of classes, or only one.
    """
    found = Collector(split.name)
    classes, _ = resolve_classes(split.folder)
    split.images = Counter(dict.fromkeys(classes, 0))
    try:
        files = list_images(split.folder, classes)
    except UserError:
        found.add(Violation(FOLDER_RULES['no-images'], str(split.folder)))
        files = []
    split.images.update(classes[label] for _, label in files)
    for name in classes if files else ():
        if not split.images[name]:
            found.add(Violation(FOLDER_RULES['class-empty'], name))
    label_of: dict[str, set[int]] = {}
    looked = look_all([Path(path) for path, _ in files], split.name, read)
    for (path, label), image in zip(files, looked, strict=True):
        name = os.path.relpath(path, split.folder)
        split.files[name] = classes[label]
        found.extend(Violation(FOLDER_RULES[rule], image.example(rule, name)) for rule in image.rules())
        split.kinds.add(image, name)
        if image.size is not None:
            split.sizes[name] = image.size
        if image.digest is not None:
            split.hashes.setdefault(image.digest, []).append(name)
            label_of.setdefault(image.digest, set()).add(label)
    several = {digest for digest, labels in label_of.items() if len(labels) > 1}
    for digest in several:
        found.add(Violation(FOLDER_RULES['content-in-classes'], ' = '.join(split.hashes[digest][:3])))
    found.extend(repeated_content({d: names for d, names in split.hashes.items() if d not in several}))
    split.findings = found.findings()
    return split.findings


def compare_folders(splits: Sequence[FolderSplit]) -> list[Finding]:
    """Find classes that one split has and another has not."""
    found = Collector('')
    for one in splits:
        for other in splits:
            for name in one.images:
                if name not in other.images:
                    rule = FOLDER_RULES['classes-differ']
                    found.add(Violation(rule, f'{name!r} of {one.name}, not of {other.name}'))
    return found.findings()
