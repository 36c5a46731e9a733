"""Reading and writing of weight files: never runs code from a file, never leaves a partial file."""

import argparse
import hashlib
import json
import os
import pickletools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import unquote, urlparse

import torch
from filelock import FileLock
from torch import Tensor

from ..utils.errors import CheckpointError, DownloadError, cause_of
from ..utils.files import replacing
from ..utils.log import log
from ..utils.trust import pickles_are_trusted

LICENSE_NOTE = (
    'The published FasterViT weights are under a non-commercial license '
    '(NVIDIA Source Code License-NC / CC BY-NC-SA 4.0): see NOTICE.'
)

#: torch's own variable.
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'

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
        raise CheckpointError(_refusal(path) or _not_a_checkpoint(path)) from error
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
        path = _download(name)
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
        else:
            try:
                with temporary.open('wb') as file:
                    torch.save({'state_dict': tensors, 'meta': dict(metadata)}, file)
            except RuntimeError as error:  # raised by torch's writer in place of the OSError
                raise CheckpointError(f'cannot write {path}: {error.__context__ or error}') from error


@contextmanager
def safe_loading() -> Iterator[None]:
    """Restrict every ``torch.load``, whoever calls it, to data of published files and mmengine's checkpoints.

    Only plain records are allowed: argparse's namespace, numpy arrays and numbers, mmengine's log buffers.
    No-op where pickles are trusted.
    """
    if pickles_are_trusted():
        yield
        return
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = '1'  # libraries try weights_only=False after a refusal
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            yield
    finally:
        os.environ.pop(_FORCE)
        if before is not None:
            os.environ[_FORCE] = before


def _allowed_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    import numpy as np

    # numpy._core.multiarray; before numpy 2 numpy.core.multiarray
    multiarray = sys.modules[np.zeros(1).__reduce__()[0].__module__]
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]]
    allowed = [argparse.Namespace, np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar]
    allowed += {type(np.dtype(t)) for t in 'bBhHiIlLqQefd?'}
    if 'mmengine' in sys.modules:
        from mmengine.logging import HistoryBuffer

        methods = ('min', 'max', 'mean', 'current', 'data', 'statistics')

        def history_method(owner: object, name: str) -> object:
            """Restrict ``getattr`` to what the log buffers need."""
            if owner is not HistoryBuffer or name not in methods:
                raise UnpicklingError(f'refused getattr({owner!r}, {name!r})')
            return getattr(owner, name)

        allowed += [HistoryBuffer, (history_method, 'builtins.getattr')]
    return allowed


def _refusal(path: Path) -> str:
    """Describe the code that a pickle would run, without running it; '' for a file that is only damaged."""
    unsafe: list[str] = []
    with suppress(Exception), safe_loading():  # too damaged to inspect
        if path.open('rb').read(2) == b'PK':
            unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        else:
            for name in _pickle_globals(path):  # one by one: what came before the damage counts
                if not name.startswith(_TORCH_GLOBALS):
                    unsafe.append(name)
    if not unsafe:
        return ''
    return (
        f'refused to read {path}: the pickle would run {", ".join(unsafe)}, which is code, not weights '
        '(--trust-pickle: only for your own files)'
    )


#: Of the published weights, on huggingface.co.
PUBLISHED_REPOSITORY = 'ahatamiz/FasterViT'
_TORCH_GLOBALS = ('torch.', 'collections.OrderedDict')


def _pickle_globals(path: Path) -> Iterator[str]:
    """Yield the names that a plain pickle imports."""
    strings: list[str] = []
    with path.open('rb') as file:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == 'STACK_GLOBAL':
                yield '.'.join(strings[-2:])
            elif isinstance(argument, str) and opcode.name == 'GLOBAL':
                yield argument.replace(' ', '.')
            elif isinstance(argument, str):
                strings.append(argument)


def _not_a_checkpoint(path: Path) -> str:
    size = path.stat().st_size
    return f'{path} is not a checkpoint ({size} bytes): expected a complete .safetensors or torch.save file'


def _download(url: str) -> Path:
    """Download a file once: one process does it, all others, of this run or another, wait for the file.

    A file in torch's hub folder takes precedence, so that users can put it there by hand: the published
    weights under their own name, any other with a digest of its URL, as two URLs can end in the same name.
    """
    hub_file, name = _split_hub_url(url), Path(urlparse(url).path)
    file_name = name.name
    if hub_file is None or hub_file[0] != PUBLISHED_REPOSITORY:
        file_name = f'{name.stem}-{hashlib.sha256(url.encode()).hexdigest()[:12]}{name.suffix}'
    path = Path(torch.hub.get_dir()) / 'checkpoints' / file_name
    if path.is_file():
        log(f'{url}: using {path}')
        return path
    try:
        if hub_file:
            return _download_from_hub(url, *hub_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f'{path.name}.lock')):
            if not path.is_file():
                log(f'downloading {url} to {path}. {LICENSE_NOTE}')
                torch.hub.download_url_to_file(url, str(path))
    except Exception as error:  # the Hub's library raises errors of its HTTP client
        otherwise = 'train from scratch with --cfg-options model.backbone.init_cfg=None'
        raise DownloadError(url, cause_of(error), str(path), otherwise) from error
    return path


def _split_hub_url(url: str) -> tuple[str, str, str] | None:
    """Split ``https://huggingface.co/REPO/resolve/REVISION/FILE``; None for any other URL."""
    parts = urlparse(url)
    match = re.fullmatch(r'/((?!datasets/|spaces/)[^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)', parts.path)
    if parts.hostname != 'huggingface.co' or match is None:
        return None
    repo_id, revision, filename = map(unquote, match.groups())
    return repo_id, revision, filename


def _download_from_hub(url: str, repo_id: str, revision: str, filename: str) -> Path:
    """Return a file of the Hugging Face cache, downloaded if necessary.

    huggingface_hub resumes a broken download, checks the size and honors HF_ENDPOINT and HF_HUB_OFFLINE.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repo_id, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    log(f'downloading {url} to the Hugging Face cache. {LICENSE_NOTE}')
    return Path(hf_hub_download(repo_id, filename, revision=revision))
