"""The json beside an exported file: its schema, and the digests that bind the files to each other."""

import hashlib
import json
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from ..datasets.pixel_format import PixelFormat
from ..utils.errors import UserError
from ..utils.files import read_json, replacing
from .exported_formats import format_of, weights_of

#: Version of the json.
FORMAT = 2


def _is_int(value: object, least: int = 1) -> bool:
    return type(value) is int and least <= value <= 2**53


def _is_side(value: object) -> bool:
    return _is_int(value) and value <= 2**14  # type: ignore[operator]


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_side, value))


def _are_classes(value: object) -> bool:
    if not isinstance(value, list) or not all(
        isinstance(c, dict) and set(c) == {'id', 'name'} for c in value
    ):
        return False
    ids = [c['id'] for c in value]
    return (
        all(_is_int(i, -(2**53)) for i in ids)
        and len(set(ids)) == len(ids)
        and all(isinstance(c['name'], str) for c in value)
    )


#: How image files are read, see PixelFormat.
_PIXELS = ('bits', 'channels', 'rgb', 'dtype')
#: How images are resized -> the keys beside it.
_PREPROCESS = dict(
    stretch={'pad_value', 'scale', 'multiple', *_PIXELS},
    fit={'pad_value', 'multiple', *_PIXELS},
    none={'pad_value', 'scale', 'multiple', *_PIXELS},
    edges={'pad_value', 'scale', 'multiple', *_PIXELS},
    edge={'edge', 'crop', 'interpolation', 'backend', *_PIXELS},
    exact={'scale', 'crop', 'interpolation', 'backend', *_PIXELS},
)
#: Keys that are not always there: earlier versions resized with Pillow, few have the others.
_LATER = {'backend', 'multiple', *_PIXELS}
_PREPROCESS_VALUES: dict[str, Callable[[Any], bool]] = dict(
    pad_value=lambda v: isinstance(v, list) and all(type(n) in (int, float) and isfinite(n) for n in v),
    scale=_is_pair,
    edge=_is_side,
    crop=lambda v: v is None or _is_pair(v),
    interpolation=lambda v: v in ('bilinear', 'bicubic'),
    multiple=_is_side,
    backend=lambda v: v in ('pillow', 'cv2'),
    bits=lambda v: type(v) is int,
    channels=lambda v: type(v) is int,
    rgb=lambda v: isinstance(v, list),
    dtype=lambda v: isinstance(v, str),
)


def _is_preprocess(info: Mapping[str, Any]) -> bool:
    """Whether an image can be prepared as the json says, for its task and size."""
    value, of_classifier = info['preprocess'], info['task'] == 'classification'
    how = value.get('resize') if isinstance(value, dict) else None
    if not isinstance(how, str) or how not in _PREPROCESS or (how in ('edge', 'exact')) != of_classifier:
        return False
    needed = _PREPROCESS[how] - _LATER
    if info['size'] is not None and not of_classifier:
        needed -= {'scale'}
    return (
        needed <= value.keys() <= _PREPROCESS[how] | {'resize'}
        and all(_PREPROCESS_VALUES[name](v) for name, v in value.items() if name != 'resize')
        and (info['size'] is not None or how not in ('fit', 'edge', 'exact'))
        and _has_pixel_format(value)
    )


def _has_pixel_format(preprocess: Mapping[str, Any]) -> bool:
    """Whether images can be read as the json says, and padded."""
    try:
        channels = PixelFormat.of(preprocess).channels
    except ValueError:
        return False
    pad = preprocess.get('pad_value')
    if channels is None:
        return pad is None or (len(pad) == 3 and all(type(n) is int and 0 <= n < 256 for n in pad))
    return pad is None or len(pad) == channels


def _are_queries(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {'things', 'max_per_image', 'panoptic'}:
        return False
    limits = value.get('panoptic', dict(object_mask_thr=0.0, iou_thr=0.0, filter_low_score=False))
    return (
        _is_int(value.get('things'), 0)
        and _is_int(value.get('max_per_image', 1))
        and isinstance(limits, dict)
        and limits.keys() == {'object_mask_thr', 'iou_thr', 'filter_low_score'}
        and all(isinstance(limits[name], int | float) for name in limits)
    )


#: Keys of some detectors: masks of the whole image; queries, see :mod:`~.exported_masks`.
_OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = dict(
    masks=(
        lambda v: (
            isinstance(v, dict)
            and isinstance(v.get('threshold'), float)
            and 0 < v['threshold'] < 1
            and _is_side(v.get('divisor', 1))
        ),
        'a threshold of probabilities',
    ),
    queries=(_are_queries, 'how queries are read'),
)
#: Task -> results that predictions are made of.
_RESULTS = dict(
    detection={'boxes', 'scores', 'labels'}, segmentation={'logits', 'label_map'}, classification={'scores'}
)
#: Key -> (test of its value, what it must be).
_SCHEMA: dict[str, tuple[Callable[[Any], bool], str]] = dict(
    format=(lambda v: v == FORMAT, str(FORMAT)),
    task=(lambda v: v in ('detection', 'segmentation', 'classification', 'backbone'), 'a task'),
    config=(lambda v: isinstance(v, str), 'a text'),
    size=(lambda v: v is None or _is_pair(v), 'null or [height, width]'),
    bounds=(_is_pair, '[least, most]'),
    batch=(_is_int, 'a number'),
    dtype=(lambda v: v in ('uint8', 'float32'), 'uint8 or float32'),
    normalization=(lambda v: isinstance(v, dict), 'mean and std'),
    preprocess=(lambda v: isinstance(v, dict), 'how images are prepared'),
    outputs=(lambda v: isinstance(v, list) and bool(v) and all(isinstance(n, str) for n in v), 'names'),
    align_corners=(lambda v: isinstance(v, bool), 'true or false'),
    classes=(_are_classes, 'a list of classes with different ids'),
    own_category_ids=(lambda v: isinstance(v, bool), 'true or false'),
    layers=(
        lambda v: isinstance(v, dict) and all(isinstance(n, str) for n in v.values()),
        'names of results',
    ),
    parity=(lambda v: isinstance(v, dict), 'a comparison'),
    files=(lambda v: isinstance(v, dict), 'digests'),
)


def info_path(path: Path) -> Path:
    """Return the path of the json that belongs to an exported file: model.onnx.json."""
    return path.with_name(f'{path.name}.json')


def files_of(path: Path) -> dict[str, Path]:
    """Return the files of an export by their role: the model, and its weights if they are apart."""
    files = dict(model=path)
    weights = weights_of(path)
    if format_of(path).always_apart or weights.is_file():
        files['weights'] = weights
    return files


def write_info(path: Path, info: Mapping[str, Any]) -> None:
    """Write the json of an exported file, with the digests of its files and of the json itself.

    Raises:
        UserError: it cannot be written.
    """
    files = {role: _digest(file) for role, file in files_of(path).items()}
    content = json.loads(json.dumps(dict(info, files=files), default=float))
    content['sha256'] = _digest_of_info(content)
    with replacing(info_path(path)) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def read_info(path: Path) -> dict[str, Any]:
    """Read the json beside an exported file, and check that both belong together.

    Raises:
        UserError: a file is missing, the json is broken or edited, or it is of other files.
    """
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    beside = info_path(path)
    if not beside.is_file():
        raise UserError(
            f'{beside} is missing, which fastervit export writes beside {path.name}: copy it, too'
        )
    info = read_json(beside, 'copy it again')
    if not isinstance(info, dict):
        raise UserError(
            f'{beside} holds a {type(info).__name__}, not the description of a file: copy it again'
        )
    missing = _SCHEMA.keys() - info.keys()
    if info.get('format') != FORMAT or missing:
        what = (
            f'lacks {", ".join(sorted(missing))}' if info.get('format') == FORMAT else 'is of another version'
        )
        raise UserError(
            f'{beside} {what}: it is not what this version of fastervit export writes, export again'
        )
    if info.get('sha256') != _digest_of_info(info):
        raise UserError(
            f'{beside} was changed after the export: copy it again, or export with what you want in it'
        )
    for key, (is_valid, expected) in (_SCHEMA | {k: v for k, v in _OPTIONAL.items() if k in info}).items():
        if not is_valid(info[key]):
            raise UserError(f'{beside}: {key} is {str(info[key])[:60]}, expected {expected}: copy it again')
    if not _is_preprocess(info):
        raise UserError(
            f'{beside}: preprocess is {str(info["preprocess"])[:90]}, which fits no {info["task"]}'
        )
    results = {'probabilities', 'masks'} if 'queries' in info else _RESULTS.get(info['task'], set())
    if not results <= set(info['outputs']):
        raise UserError(f'{beside}: outputs are {info["outputs"]}, expected {", ".join(sorted(results))}')
    if info['task'] == 'segmentation' and not all(0 <= c['id'] < 65535 for c in info['classes']):
        raise UserError(f'{beside}: classes have ids that are no values of a label map, 0 to 65534')
    _check_digests(path, info)
    return info


def _check_digests(path: Path, info: Mapping[str, Any]) -> None:
    files, beside = files_of(path), info_path(path)
    for role, digest in info['files'].items():
        file = files.get(role, path.with_name(f'{path.name}.data'))
        if not file.is_file():
            raise UserError(f'{file} is missing, without which {path.name} cannot run: copy it, too')
        if _digest(file) != digest:
            raise UserError(
                f'{file} is not the file that {beside.name} describes: copy all files of one export again'
            )


def _digest_of_info(info: Mapping[str, Any]) -> str:
    text = json.dumps({k: v for k, v in info.items() if k != 'sha256'}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> dict[str, object]:
    try:
        with path.open('rb') as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            return dict(sha256=digest.hexdigest(), bytes=file.tell())
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror or error}') from error
