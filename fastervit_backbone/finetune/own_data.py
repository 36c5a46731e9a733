"""What a data set of one's own holds, as far as a training needs to know."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.images import images_below, open_image, upright_size
from ..datasets.validation.check import label_overlap, progress_bar
from ..datasets.validation.coco import audit, read_split
from ..datasets.validation.compare import compare_splits
from ..datasets.validation.findings import Finding
from ..datasets.validation.label_maps import LabelSplit, audit_labels
from ..utils.errors import UserError

#: Image files are opened when there are no more of them than this; tools/check_data.py opens all.
OPEN_UP_TO = 3000


@dataclass
class OwnData:
    """Two splits.

    Attributes:
        kind: 'coco' or 'labels'.
        train: json, or folder of label maps.
        val: likewise.
        images: folders of the images, of train and of val.
        classes: names.
        masks: whether every object has one ('coco').
        count: images to train on.
        empty: images to train on that have no object ('coco').
        size: (height, width), the median of the training images.
        suffix: ending of the images ('labels').
        ignored: value that means "no class" ('labels').
        findings: what the check found.
    """

    kind: str
    train: Path
    val: Path
    images: tuple[Path, Path]
    classes: list[str]
    masks: bool
    count: int
    empty: int
    size: tuple[int, int]
    suffix: str = ''
    ignored: int = 255
    findings: Sequence[Finding] = ()


def read_own_data(
    train: str | Path,
    val: str | Path,
    images: Sequence[str | Path],
    classes: Sequence[str] | None,
    ignored: int | None,
) -> OwnData:
    """Look through both splits and stop at what training would stumble over.

    Args:
        train: COCO json, or folder of label maps.
        val: likewise.
        images: one folder for both, or one for each.
        classes: of label maps: names of the values 0, 1, ...
        ignored: of label maps: a value that means "no class", beside 255.

    Raises:
        UserError: with the first error and the command that lists all.
    """
    if len(images) not in (1, 2):
        raise UserError(f'--images names {len(images)} folders: one for both splits, or one for each')
    paths = Path(train), Path(val)
    folders = Path(images[0]), Path(images[-1])
    kinds = [p.is_dir() for p in paths]
    if kinds[0] != kinds[1]:
        raise UserError(
            f'{paths[kinds.index(True)]} is a folder and {paths[kinds.index(False)]} is not: two jsons, or two folders of label maps'
        )
    if kinds[0]:
        return _labels(paths, folders, classes, ignored)
    if classes is not None or ignored is not None:
        raise UserError('--classes and --ignore are for label maps: a COCO json names its classes itself')
    return _coco(paths, folders)


def _coco(paths: tuple[Path, Path], folders: tuple[Path, Path]) -> OwnData:
    splits = [
        read_split(name, path, folder)
        for name, path, folder in zip(('train', 'val'), paths, folders, strict=True)
    ]
    for split in splits:
        audit(
            split, read_images=len(split.content['images']) <= OPEN_UP_TO, progress=progress_bar(split.name)
        )
    findings = [f for split in splits for f in split.findings] + compare_splits(splits)
    _stop_at_errors(findings, paths, folders, '--fix fixed')
    content = splits[0].content
    names = [c['name'] for c in content['categories']]
    if [c['name'] for c in splits[1].content['categories']] != names:
        raise UserError(
            f'{paths[1]} has other categories than {paths[0]}, or the same in another order: write them alike in both'
        )
    objects = content['annotations']
    if not objects or not splits[1].content['annotations']:
        raise UserError(
            f'{paths[0] if not objects else paths[1]} has no objects: nothing to learn or to score'
        )
    masks = [bool(a.get('segmentation')) for s in splits for a in s.content['annotations']]
    sizes = np.array([(i['height'], i['width']) for i in content['images']])
    empty = len({i['id'] for i in content['images']} - {a['image_id'] for a in objects})
    size = tuple(int(v) for v in np.median(sizes, axis=0))
    return OwnData('coco', *paths, folders, names, all(masks), len(sizes), empty, size, findings=findings)


def _labels(
    paths: tuple[Path, Path], folders: tuple[Path, Path], classes: Sequence[str] | None, ignored: int | None
) -> OwnData:
    if not classes:
        raise UserError(
            '--classes is needed with label maps: the names of the values 0, 1, ..., as --classes sky road tree'
        )
    splits = [
        LabelSplit(name, folder, path)
        for name, folder, path in zip(('train', 'val'), folders, paths, strict=True)
    ]
    for split in splits:
        audit_labels(
            split, classes, ignored=() if ignored is None else (ignored,), progress=progress_bar(split.name)
        )
    findings = [f for split in splits for f in split.findings] + label_overlap(splits)
    _stop_at_errors(
        findings,
        paths,
        folders,
        f'--classes {" ".join(classes)}' + ('' if ignored is None else f' --ignore {ignored}'),
    )
    files = images_below(folders[0])
    suffixes = {p.suffix for p in (*files, *images_below(folders[1]))}
    if len(suffixes) > 1:
        raise UserError(
            f'the images end in {", ".join(sorted(suffixes))}: with label maps all must end alike'
        )
    sizes = []
    for path in files[:: max(1, len(files) // 200)]:
        with open_image(path) as image:
            sizes.append(upright_size(image)[::-1])
    size = tuple(int(v) for v in np.median(np.array(sizes), axis=0))
    return OwnData(
        'labels',
        *paths,
        folders,
        list(classes),
        True,
        len(files),
        0,
        size,
        suffixes.pop(),
        255 if ignored is None else ignored,
        findings,
    )


def _stop_at_errors(
    findings: Sequence[Finding], paths: tuple[Path, Path], folders: tuple[Path, Path], options: str
) -> None:
    # said all the same: the first may be meant, and our own evaluation renumbers the second
    passed = ('splits-overlap', 'annotation-id-zero')
    errors = [f for f in findings if f.level == 'error' and f.kind not in passed]
    if errors:
        first, kinds = errors[0].line().removeprefix('error: '), 'kind' if len(errors) == 1 else 'kinds'
        images = ' '.join(map(str, dict.fromkeys(folders)))
        command = (
            f'python tools/check_data.py --train {paths[0]} --val {paths[1]} --images {images} {options}'
        )
        raise UserError(
            f'{len(errors)} {kinds} of error in the data, the first {first}. All of them: {command}'
        )
