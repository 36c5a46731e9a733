"""Put public data sets where the configs expect them: unpack archives, link folders, count files.

Nothing is ever deleted.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..utils.errors import UserError
from .archives import Archive, fetch_archive, unpack
from .class_folders import list_images, resolve_classes
from .download_hints import HOW_TO_GET_IMAGENET
from .image_headers import open_image
from .validation.before_training import check_coco, check_label_maps, check_voc

#: Files of a folder that are opened to check that they are readable.
SAMPLE = 32


@dataclass(frozen=True)
class PublicData:
    """A data set as the configs expect it.

    Attributes:
        variable: environment variable that names its folder.
        root: folder where the variable is not set.
        archives: the published files.
        counts: (folder, suffix, number of files) when complete.
    """

    variable: str
    root: str
    archives: tuple[Archive, ...]
    counts: tuple[tuple[str, str, int], ...]

    @property
    def entries(self) -> tuple[str, ...]:
        """Return the folders directly below the root."""
        return tuple(dict.fromkeys(folder.split('/')[0] for folder, _, _ in self.counts))


_COCO, _VOC = 'http://images.cocodataset.org/', 'http://host.robots.ox.ac.uk/pascal/VOC/'
#: Checksums: of COCO as tensorflow-datasets 4.9.10 has them, of VOC as torchvision 0.26 has them.
DATA_SETS = {
    'coco': PublicData(
        'COCO_ROOT',
        'data/coco',
        (
            Archive(
                _COCO + 'zips/train2017.zip',
                'sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929',
                fills='train2017',
            ),
            Archive(
                _COCO + 'zips/val2017.zip',
                'sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05',
                fills='val2017',
            ),
            Archive(
                _COCO + 'annotations/annotations_trainval2017.zip',
                'sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268',
                fills='annotations',
            ),
        ),
        (
            ('train2017', '.jpg', 118287),
            ('val2017', '.jpg', 5000),
            ('annotations', 'instances_train2017.json', 1),
            ('annotations', 'instances_val2017.json', 1),
        ),
    ),
    'ade20k': PublicData(
        'ADE_ROOT',
        'data/ade/ADEChallengeData2016',
        (Archive('http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip', strip=1),),
        (
            ('images/training', '.jpg', 20210),
            ('images/validation', '.jpg', 2000),
            ('annotations/training', '.png', 20210),
            ('annotations/validation', '.png', 2000),
        ),
    ),
    'voc': PublicData(
        'VOC_ROOT',
        'data/VOCdevkit',
        (
            Archive(
                _VOC + 'voc2007/VOCtrainval_06-Nov-2007.tar',
                'md5:c52e279531787c972589f7e41ab4ae64',
                strip=1,
                fills='VOC2007',
            ),
            Archive(
                _VOC + 'voc2007/VOCtest_06-Nov-2007.tar',
                'md5:b6e924de25625d8de591ea690078ad9f',
                strip=1,
                fills='VOC2007',
            ),
            Archive(
                _VOC + 'voc2012/VOCtrainval_11-May-2012.tar',
                'md5:6cd6e144f989b92b3379bac3b3de84fd',
                strip=1,
                fills='VOC2012',
            ),
        ),
        (
            ('VOC2007/JPEGImages', '.jpg', 9963),
            ('VOC2007/Annotations', '.xml', 9963),
            ('VOC2012/JPEGImages', '.jpg', 17125),
            ('VOC2012/Annotations', '.xml', 17125),
        ),
    ),
}


def prepare(
    data: PublicData,
    sources: Sequence[str | Path] = (),
    *,
    root: str | Path | None = None,
    download: bool = False,
) -> Path:
    """Put a data set in place and check it; existing files stay, and a second call resumes the first.

    Args:
        data: the data set.
        sources: archives (unpacked), or folders that hold them or the data set itself (linked, not copied).
        root: target folder; by default the variable's.
        download: download the archives that are still needed into ``root/archives``.

    Returns:
        the folder.

    Raises:
        UserError: an unknown source, no disk space, a broken archive or download, or an incomplete data set.
    """
    root = Path(root or os.environ.get(data.variable) or data.root)
    for source in map(Path, sources):
        if not source.exists():
            raise UserError(f'no archive or folder at {source}: check the path')
        if source.is_file():
            _unpack_known(data, source, root)
            continue
        found = _link(data, source, root)
        archives = [source / a.name for a in data.archives if (source / a.name).is_file()]
        for path in archives:
            _unpack_known(data, path, root)
        if not found and not archives:
            names = ', '.join([*data.entries, *(a.name for a in data.archives)])
            raise UserError(f'{source} holds nothing of this data set: expected one of {names} in it')
    for archive in data.archives if download else ():
        if any(line.startswith(archive.fills) for line in _missing(data, root)):
            _unpack_known(data, fetch_archive(archive, root / 'archives'), root)
    check(data, root)
    return root


#: Images of ImageNet-1K's splits.
_IMAGENET = {'train': 1281167, 'val': 50000}


def prepare_imagenet(source: str | Path | None = None, root: str | Path | None = None) -> Path:
    """Check a folder of ImageNet-1K, ``train`` and ``val`` with one folder per class, and link it.

    Args:
        source: the folder, linked to ``root``; None: it is in ``root`` already.
        root: where the configs look for it; by default IMAGENET_ROOT.

    Returns:
        ``root``.

    Raises:
        UserError: a class or images are missing, an image of a sample cannot be read, or no link can be made.
    """
    root = Path(root or os.environ.get('IMAGENET_ROOT') or 'data/imagenet')
    place = Path(source or root)
    for split, count in _IMAGENET.items():
        if not (place / split).is_dir():
            raise UserError(f'no folder at {os.path.abspath(place / split)}: {HOW_TO_GET_IMAGENET}')
        images = list_images(place / split, resolve_classes(place / split, 'imagenet-1k')[0])
        if len(images) < count:
            raise UserError(f'{place / split} has {len(images)} of {count} images: {HOW_TO_GET_IMAGENET}')
        for path, _ in images[:: -(-len(images) // SAMPLE)]:
            with open_image(path) as image:
                image.load()
    if place.resolve() != root.resolve():
        _make_link(root, place)
    return root


def _make_link(target: Path, place: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(os.path.abspath(place)), target_is_directory=True)
    except OSError as error:
        raise UserError(f'cannot make the link {target} ({error.strerror}): set another --root') from error
    print(f'{target} -> {os.path.abspath(place)}')


def check(data: PublicData, root: Path) -> None:
    """Count the files of every folder, open a sample, check the annotations.

    Raises:
        UserError: one line with everything that is missing, or the first broken file.
    """
    missing = _missing(data, root)
    if missing:
        have = ', '.join(a.name for a in data.archives)
        folder = 'its folder' if len(data.archives) == 1 else 'their folder'
        raise UserError(
            f'{os.path.abspath(root)} is not complete: {"; ".join(missing)}. Give {have} or {folder}, or '
            '--download'
        )
    for folder, suffix, _ in data.counts:
        if suffix in ('.jpg', '.png'):
            names = sorted(n for n in os.listdir(root / folder) if n.endswith(suffix))
            for name in names[:: -(-len(names) // SAMPLE)]:
                with open_image(root / folder / name) as image:
                    image.load()
    if data is DATA_SETS['coco']:
        for split in ('train', 'val'):
            check_coco(root / f'annotations/instances_{split}2017.json', root / f'{split}2017')
    elif data is DATA_SETS['ade20k']:
        for split in ('training', 'validation'):
            names = sorted(p.stem for p in (root / 'images' / split).glob('*.jpg'))
            pairs = [
                (str(root / f'images/{split}/{n}.jpg'), str(root / f'annotations/{split}/{n}.png'))
                for n in names
            ]
            check_label_maps(
                pairs[:: -(-len(pairs) // SAMPLE)], [str(i) for i in range(150)], reduce_zero_label=True
            )
    else:
        for year, split in ((2007, 'trainval'), (2007, 'test'), (2012, 'trainval')):
            check_voc(root, f'VOC{year}/ImageSets/Main/{split}.txt', f'VOC{year}')


def _unpack_known(data: PublicData, path: Path, root: Path) -> None:
    archive = next((a for a in data.archives if a.name == path.name), None)
    if archive is None:
        raise UserError(
            f'{path} is not an archive of this data set: those are {", ".join(a.name for a in data.archives)}'
        )
    count = unpack(path, root, archive.strip)
    print(
        f'{path.name}: {count} files written to {root}'
        if count
        else f'{path.name}: already complete in {root}'
    )


def _link(data: PublicData, source: Path, root: Path) -> bool:
    """Link the complete folders in ``source`` (or one level below) into ``root``.

    Return whether there were any.
    """
    for place in (source, *sorted(p for p in source.iterdir() if p.is_dir())):
        found = dict.fromkeys(
            f.split('/')[0] for f, suffix, _ in data.counts if _count_files(place / f, suffix)
        )
        if place.resolve() == root.resolve() or not found:
            continue
        for entry in found:
            target = root / entry
            if os.path.lexists(target):
                continue
            lacking = _lacking(data, place, entry)
            if lacking:  # a link would keep an archive from filling it
                print(f'{place / entry} is not linked: {"; ".join(lacking)}')
                continue
            _make_link(target, place / entry)
        return True
    return False


def _count_files(folder: Path, suffix: str) -> int:
    return sum(e.name.endswith(suffix) for e in os.scandir(folder)) if folder.is_dir() else 0


def _missing(data: PublicData, root: Path) -> list[str]:
    for folder, suffix, count in data.counts:
        existing = _count_files(root / folder, suffix)
        if existing > count:
            print(f'{root / folder} has {existing} *{suffix}, {count} are published: the others stay')
    return [line for entry in data.entries for line in _lacking(data, root, entry)]


def _lacking(data: PublicData, root: Path, entry: str) -> list[str]:
    """Return a line for each folder within ``entry`` that has fewer files than published."""
    within = [
        (folder, suffix, count) for folder, suffix, count in data.counts if folder.split('/')[0] == entry
    ]
    existing = [_count_files(root / folder, suffix) for folder, suffix, _ in within]
    return [
        f'{folder} has {n} of {count} *{suffix}'
        for (folder, suffix, count), n in zip(within, existing, strict=True)
        if n < count
    ]
