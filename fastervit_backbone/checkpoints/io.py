"""Reading and writing of weight files: never runs code from a file, never leaves a partial file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor

from ..utils.errors import CheckpointError
from ..utils.files import replacing
from ..utils.trust import pickles_are_trusted
from .download import download_file
from .safe_loading import _not_a_checkpoint, refusal, safe_loading

#: Name of the weights of nano in this package (their card: weights/README.md).
NANO = 'fastervit://nano'
#: Name -> file.
PACKAGED = {NANO: Path(__file__).parents[1] / 'weights' / 'nano.safetensors'}


def read_checkpoint(source: str | Path) -> dict[str, Any]:
    """Read everything in a weight file, to the CPU.

    Args:
        source: path or http(s) URL of a ``.safetensors`` or a pickled (``.pth``, ``.pth.tar``, ``.pt``) file.

    Returns:
        the pickled dict; for safetensors ``state_dict`` and ``meta``.

    Raises:
        CheckpointError: missing, download failed, not a checkpoint, or a pickle that needs more than data.
    """
    path = resolve_checkpoint(source)
    try:
        if path.suffix == '.safetensors':
            return _read_safetensors(path)
        with path.open('rb') as file:
            magic = file.read(4)
        if not magic.startswith((b'PK\x03\x04', b'\x80')):  # torch's zip archive, or an older plain pickle
            raise CheckpointError(_not_a_checkpoint(path))
        with safe_loading():
            content = torch.load(path, map_location='cpu', weights_only=not pickles_are_trusted())
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f'cannot read {path}: {error.strerror or error}') from error
    except Exception as error:  # readers raise anything on a damaged file
        raise CheckpointError(refusal(path) or _not_a_checkpoint(path)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not a checkpoint dict')
    _check_plain(content, path)
    return dict(content)


def resolve_checkpoint(source: str | Path) -> Path:
    """Return the local file of a path, a URL (downloaded if necessary) or a name in :data:`PACKAGED`.

    Raises:
        CheckpointError: no such file, or the download failed.
    """
    name, path = str(source), Path(source)
    scheme = urlparse(name).scheme
    if scheme in ('http', 'https'):
        path = download_file(name)
    elif scheme == 'fastervit':
        if name not in PACKAGED:
            raise CheckpointError(f'no weights {name}: this package has {", ".join(PACKAGED)}')
        path = PACKAGED[name]
    if not path.is_file():
        reason = 'it is a folder' if path.is_dir() else 'check the path'
        raise CheckpointError(f'no checkpoint at {path}: {reason}')
    return path


def _check_plain(content: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError for weights that have no values to copy: sparse, quantized, or without any."""
    parts = [
        content,
        *(content[key] for key in ('state_dict', 'model') if isinstance(content.get(key), Mapping)),
    ]
    for part in parts:
        for key, value in part.items():
            if isinstance(value, Tensor) and (
                value.layout != torch.strided or value.is_meta or value.is_quantized
            ):
                raise CheckpointError(f'{path}: {key} is no plain tensor: save the weights as plain tensors')


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f'reading {path} needs the package safetensors: pip install safetensors'
        ) from error
    try:
        with safe_open(path, framework='pt') as file:
            metadata: dict[str, Any] = dict(file.metadata() or {})
            try:
                metadata |= dict(json.loads(metadata.pop('meta', '{}')))  # what fastervit publish wrote
            except (ValueError, TypeError, RecursionError) as error:
                raise CheckpointError(
                    f"{path}: its metadata 'meta' is no JSON object: write the file again"
                ) from error
            return dict(state_dict={k: file.get_tensor(k) for k in file.keys()}, meta=metadata)
    except SafetensorError as error:
        raise CheckpointError(_not_a_checkpoint(path)) from error


def unwrap_state_dict(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict (under ``state_dict``, ``model`` or at the top) without a ``module.`` prefix.

    Raises:
        CheckpointError: no tensors in it.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f'no tensors in the checkpoint, its keys are {sorted(map(str, content))[:8]}')
    if all(k.startswith('module.') for k in tensors):
        tensors = {k.removeprefix('module.'): v for k, v in tensors.items()}
    return tensors


def write_plain_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write the weights and the plain metadata of a run's checkpoint, for stock ``torch.load``.

    Args:
        content: a checkpoint of mmengine.
        path: file to write: ``state_dict``, and of ``meta`` what is plain data (classes, config, ...).

    Raises:
        UserError: it cannot be written.
    """
    with replacing(path) as temporary:
        torch.save(dict(state_dict=content['state_dict'], meta=plain(content.get('meta', {}))), temporary)


_NOT_PLAIN = object()
_MAX_DEPTH = 100


def plain(value: Any, depth: int = 0) -> Any:
    """Convert to what ``weights_only=True`` allows; entries of a dict that have no such form are dropped."""
    if depth > _MAX_DEPTH:
        return _NOT_PLAIN
    if hasattr(value, 'tolist') and not isinstance(value, Tensor):  # numpy's arrays and numbers
        return value.tolist()
    if isinstance(value, Mapping):
        entries = {str(k): plain(v, depth + 1) for k, v in value.items()}
        return {k: v for k, v in entries.items() if v is not _NOT_PLAIN}
    if isinstance(value, list | tuple):
        items = [plain(v, depth + 1) for v in value]
        if any(item is _NOT_PLAIN for item in items):
            return _NOT_PLAIN
        return tuple(items) if isinstance(value, tuple) else items
    return value if value is None or type(value) in (str, int, float, bool) else _NOT_PLAIN


def write_state_dict(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write ``.safetensors`` or ``.pth`` (chosen by the suffix), atomically.

    Raises:
        CheckpointError: another suffix, or the disk is full.
        UserError: the folder cannot be written.
    """
    path = Path(path)
    if path.suffix not in ('.safetensors', '.pth'):
        raise CheckpointError(f'cannot write {path}: the name must end in .safetensors or .pth')
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with replacing(path) as temporary:
        if path.suffix == '.safetensors':
            from safetensors import SafetensorError
            from safetensors.torch import save_file

            try:
                save_file(tensors, temporary, metadata={'format': 'pt', **metadata})
            except SafetensorError as error:
                raise CheckpointError(f'cannot write {path}: {error}') from error
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)  # safetensors lets nobody else read it
        else:
            try:
                with temporary.open('wb') as file:
                    torch.save({'state_dict': tensors, 'meta': dict(metadata)}, file)
            except RuntimeError as error:  # raised by torch's writer in place of the OSError
                raise CheckpointError(f'cannot write {path}: {error.__context__ or error}') from error
