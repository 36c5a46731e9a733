"""Conversion behind fastervit convert-data: choose by format, write, and say what comes next."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..utils.errors import UserError
from ..utils.files import replacing
from . import labelme
from .masks import coco_to_label_maps, convert_masks, label_maps_to_coco, read_colors
from .packed import unpack_images
from .validation.coco import CocoSplit
from .voc import read_voc
from .yolo import read_yolo


def convert(
    kind: str,
    source: Path,
    out: Path,
    *,
    classes: Sequence[str] | None = None,
    values: Mapping[int, int] | None = None,
    colors: str | Path | None = None,
    images: str | Path | None = None,
) -> Iterator[str]:
    """Convert a data set; yields lines for the user.

    Args:
        kind: 'yolo', 'voc', 'labelme', 'masks', 'coco', 'labels' or 'packed'.
        source: file or folder.
        out: folder to write to.
        classes: names, of VOC's classes to keep or of the values of label maps.
        values: value in a mask -> value in the label map.
        colors: file of colors and class names.
        images: folder of the images of label maps.

    Raises:
        UserError: bad input.
    """
    if kind == 'packed':
        for name, count in unpack_images(source, out).items():
            yield f'{out / name}: {count} images'
        yield f'next: fastervit check-data {out}'
    elif kind == 'masks':
        if values is not None and colors is not None:
            raise UserError('--map and --colors: give one of them')
        counts = convert_masks(source, out, values, None if colors is None else read_colors(colors))
        yield from _describe(counts, out)
        if values is None and colors is None and set(counts) <= {0, 255} and 255 in counts:
            yield '255 is ignored in training: if it is a class, --map 255:1'
    elif kind == 'coco':
        yield from _describe(coco_to_label_maps(source, out), out)
    elif kind == 'labels':
        assert images is not None and classes is not None
        path = out / f'{source.resolve().name}.json'
        yield from _write(label_maps_to_coco(images, source, classes), path, Path(images))
    else:
        splits = _read(kind, source, classes)
        for name, split in splits.items():
            for violation in split.violations:
                text = f'{violation.rule.meaning} ({violation.example})'
                if violation.rule.severity == 'error':
                    raise UserError(f'{source}: {text}')
                yield f'{"clipped" if violation.rule.id == "box-reaches-out" else "skipped"}: {text}'
            yield from (f'note: {note}' for note in split.notes)
            yield from _write(split.content, out / f'{name}.json', split.images)
        if set(splits) <= {'train', 'val', 'test'}:
            options = [word for name in splits for word in (f'--{name}', f'{out / name}.json')]
            folders = [str(split.images) for split in splits.values()]
            yield f'next: fastervit check-data {shlex.join([*options, "--images", *folders])}'


def _read(kind: str, source: Path, classes: Sequence[str] | None) -> dict[str, CocoSplit]:
    if kind == 'yolo':
        return read_yolo(source)
    if kind == 'voc':
        return read_voc(source, classes)
    files = labelme.find(source) if source.is_dir() else []
    if not files:
        raise UserError(f'{source} has no jsons of labelme: give the folder that holds them')
    return labelme.read_labelme(source, files)


def _write(content: Mapping, path: Path, images: Path) -> Iterator[str]:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content))
    counts = [len(content[key]) for key in ('images', 'annotations', 'categories')]
    yield f'{path}: {counts[0]} images, {counts[1]} objects, {counts[2]} classes; images in {images}'


def _describe(counts: Counter[int], out: Path) -> Iterator[str]:
    total = counts.total()
    parts = ', '.join(f'{value}: {count / total:.2%}' for value, count in sorted(counts.items()))
    yield f'{out}: label maps; pixels of each value: {parts}'
