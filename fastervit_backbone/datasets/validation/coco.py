"""Check a COCO json and its images."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...utils.errors import UserError
from ..coco import has_size, read_coco
from ..rules import COCO_RULES, Violation
from .coco_entries import content_violations, count_objects, is_image
from .findings import Collector, Finding, repeated_content
from .image_files import ImageFile, PixelKinds, Read, look_all

#: Notes on the ids and fields of a json, which other layouts do not have.
_ONLY_OF_JSONS = ('category-id-zero', 'category-id-gaps', 'mask-none')


@dataclass
class CocoSplit:
    """One json and its folder of images.

    Args:
        name: 'train', 'val', ...
        path: the json.
        images: the folder that its ``file_name`` are in.
        content: as read.
        findings: filled by :func:`check_coco_split`.
        hashes: content of an image file -> its names.
        files: ``file_name`` -> what it turned out to be, for files that were opened.
        changes: filled by :func:`~fastervit_backbone.datasets.validation.repair.repair`, one line each.
        layout: that it was read from, where that is another; '' for a COCO json.
        violations: what a reader of another layout found.
        notes: of such a reader, one line each.
    """

    name: str
    path: Path
    images: Path
    content: dict
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, ImageFile] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    layout: str = ''
    violations: list[Violation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Tell where it is."""
        return f'{self.path} (images in {self.images})'

    def check(self, read: Read = 'all', values: object = None) -> list[Finding]:
        """Call :func:`check_coco_split`."""
        return check_coco_split(self, read=read)

    @property
    def kinds(self) -> PixelKinds:
        """Channels, numbers and bits of the images that were opened."""
        kinds = PixelKinds()
        for name, file in self.files.items():
            kinds.add(file, name)
        return kinds

    def counts(self) -> Counter[str]:
        """Count the objects of each class, by name; crowds count."""
        return Counter(count_objects(self.content))


def read_split(name: str, path: str | Path, images: str | Path, content: dict | None = None) -> CocoSplit:
    """Read a json, unless its ``content`` is given.

    Raises:
        UserError: it does not exist, is no JSON, or lacks one of COCO's three lists.
    """
    path, images = Path(path), Path(images)
    if not path.is_file():
        raise UserError(f'{name}: no annotations at {path}')
    if not images.is_dir():
        raise UserError(f'{name}: no image folder at {images}')
    return CocoSplit(name, path, images, read_coco(path) if content is None else content)


def check_coco_split(split: CocoSplit, *, read: Read = 'all') -> list[Finding]:
    """Check a split against every rule that concerns one split.

    Args:
        split: its ``findings``, ``hashes`` and ``files`` are filled.
        read: of the image files.

    Returns:
        the findings, errors first.
    """
    found = Collector(split.name)
    found.extend(split.violations)
    of_content = content_violations(split.content)
    found.extend(v for v in of_content if not (split.layout and v.rule.id in _ONLY_OF_JSONS))
    found.extend(_file_violations(split, read))
    found.extend(repeated_content(split.hashes))
    split.findings = found.findings()
    return split.findings


def _file_violations(split: CocoSplit, read: Read) -> Iterator[Violation]:
    listed = {}
    for entry in split.content['images']:
        if is_image(entry):
            listed.setdefault(entry['id'], entry)
    entries = list(listed.values())
    paths = [split.images / entry['file_name'] for entry in entries]
    for entry, file in zip(entries, look_all(paths, split.name, read), strict=True):
        name = entry['file_name']
        if read != 'exists':
            split.files[name] = file
        if file.digest:
            split.hashes.setdefault(file.digest, []).append(name)
        yield from image_file_violations(entry, file)


def image_file_violations(entry: Mapping, file: ImageFile) -> Iterator[Violation]:
    """Compare an image's entry with its file."""
    name = entry['file_name']
    yield from (Violation(COCO_RULES[rule], file.example(rule, name)) for rule in file.rules())
    if file.size and has_size(entry) and file.size != (entry['width'], entry['height']):
        rotated = file.size[::-1] == (entry['width'], entry['height'])
        hint = ', its size before EXIF rotates it' if rotated else ''
        sizes = f'{file.size[0]}x{file.size[1]}, json {entry["width"]}x{entry["height"]}{hint}'
        yield Violation(COCO_RULES['image-size-differs'], f'{name}: {sizes}')
