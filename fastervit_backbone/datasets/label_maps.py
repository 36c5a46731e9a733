"""What can be wrong with a folder of images and a folder of label maps, said before anything is built."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..utils.errors import UserError
from .images import open_image, upright_size

#: The pixel value that mmseg and torch leave out of loss and metric.
IGNORED = 255
#: Largest label: mmseg reads label maps as 8 bits, and 255 is ignored.
LARGEST = IGNORED - 1
#: More label maps than this are sampled evenly: ADE20K's 20210 would take minutes on two cores.
READ_AT_MOST = 5000
HOW_TO_GET_ADE = (
    'get ADEChallengeData2016.zip from data.csail.mit.edu/places/ADEchallenge, unpack it and set ADE_ROOT to the folder '
    '(python tools/prepare_data.py ade20k does both)'
)


def check_label_maps(
    pairs: Sequence[tuple[str, str]],
    classes: Sequence[str],
    *,
    reduce_zero_label: bool = False,
    label_map: Mapping[int, int] | None = None,
) -> str | None:
    """Check that every image has a label map of its size which holds labels of the classes only.

    Args:
        pairs: (image file, label map file) of every image.
        classes: names; label i of the loaded map is ``classes[i]``.
        reduce_zero_label: 0 in the file means "ignore" and 1 is the first class, as in ADE20K.
        label_map: what a loaded label is turned into, after ``reduce_zero_label``.

    Returns:
        a line where only a sample of the maps was read, else None.

    Raises:
        UserError: one line that names the first wrong file and what to do.
    """
    check_class_count(classes, reduce_zero_label)
    absent = [(image, labels) for image, labels in pairs if not os.path.isfile(labels)]
    if absent:
        image, labels = absent[0]
        raise UserError(
            f'{image} has no label map: {labels} is not there ({len(absent)} of {len(pairs)} images have none; '
            'the data set says seg_map_suffix and data_prefix.seg_map_path)'
        )
    step = -(-len(pairs) // READ_AT_MOST)
    read = pairs[::step]
    seen = np.zeros(2**16, bool)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for (_, labels), values in zip(read, pool.map(_read_values, read), strict=True):
            _check_values(labels, values, classes, reduce_zero_label, label_map or {})
            seen[values] = True
    if len(classes) == 2 and seen[[0, IGNORED]].all() and seen.sum() == 2 and not reduce_zero_label:
        raise UserError(
            f'the label maps in {Path(read[0][1]).parent} hold 0 and 255 only, and 255 means "ignore": {classes[1]!r} would never be '
            'learnt. Write masks with 0 and 1'
        )
    return None if step == 1 else f'label maps: {len(read)} of {len(pairs)} were read and are good'


def check_class_count(classes: Sequence[str], reduce_zero_label: bool = False) -> None:
    """Raise UserError where there are more classes than mmseg's 8 bits have values for: 256 would be read as 0, 257 as 1."""
    most = LARGEST + 1 - int(reduce_zero_label)  # 254 becomes 255 there
    beside = ' beside the label 0 that is ignored' if reduce_zero_label else ''
    if len(classes) > most:
        raise UserError(
            f'{len(classes)} classes of label maps: mmseg reads 8 bits, in which {most} fit{beside}: larger labels would become others, '
            'join some classes'
        )


def _read_values(pair: tuple[str, str]) -> np.ndarray:
    """Distinct pixel values of a label map, which must be one channel of its image's size."""
    image_path, label_path = pair
    with open_image(image_path) as image:
        size = upright_size(image)
    with open_image(label_path) as labels:
        if labels.size != size:
            raise UserError(
                f'{label_path} is {labels.width}x{labels.height}, its image {image_path} {size[0]}x{size[1]}: a label map has one '
                'pixel for each of the image: write it again at that size, without interpolating'
            )
        pixels = np.asarray(labels)
    if pixels.ndim != 2:
        raise UserError(
            f'{label_path} is a picture of {pixels.shape[2]} channels, not a label map: write one channel of class numbers'
        )
    return np.flatnonzero(np.bincount(pixels.astype(np.uint16).reshape(-1)))


def _check_values(
    path: str,
    values: np.ndarray,
    classes: Sequence[str],
    reduce_zero_label: bool,
    label_map: Mapping[int, int],
) -> None:
    first = 1 if reduce_zero_label else 0
    loaded = [int(v) - first for v in values if v != IGNORED and v >= first]
    wrong = sorted(
        {
            v + first
            for v in loaded
            if not 0 <= label_map.get(v, v) < len(classes) and label_map.get(v) != IGNORED
        }
    )
    if wrong:
        raise UserError(
            f'{path} holds the label {wrong[0]}, but the {len(classes)} classes have {first} to {first + len(classes) - 1}'
            + (' (0 is ignored)' if reduce_zero_label else '')
            + f': if {wrong[0]} means "ignore", set ignore_index={wrong[0]} in a LabelMapDataset, else correct metainfo.classes'
        )
