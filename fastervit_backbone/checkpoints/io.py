"""Reading and writing weight files: never runs code from a file, never leaves half a file."""

import argparse
import os
import pickletools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from filelock import FileLock
from torch import Tensor

from ..utils.errors import CheckpointError
from ..utils.files import replacing

LICENCE_NOTE = 'The published FasterViT weights are under a non-commercial licence (NVIDIA Source Code License-NC / CC BY-NC-SA 4.0): see NOTICE.'

_TRUSTED = ContextVar('trusted', default=False)
#: torch's own variable.
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


def log(message: str) -> None:
    """To mmengine's current logger where mmengine is in use, else to stderr."""
    if 'mmengine' in sys.modules:
        from mmengine.logging import print_log

        print_log(message, logger='current')
    else:
        print(message, file=sys.stderr)


def read_checkpoint(source: str | Path) -> dict:
    """Everything in a weight file, on the CPU.

    Args:
        source: path or http(s) URL of a ``.safetensors`` or a pickled (``.pth``, ``.pth.tar``, ``.pt``) file.

    Returns:
        the pickled dict; for safetensors ``state_dict`` and ``meta``.

    Raises:
        CheckpointError: not there, not downloadable, not a checkpoint, or a pickle that asks for more than data.
    """
    path = fetch(source)
    try:
        if path.suffix == '.safetensors':
            return _read_safetensors(path)
        with path.open('rb') as file:
            if not file.read(4).startswith(
                (b'PK\x03\x04', b'\x80')
            ):  # torch's zip archive, or a pickle from before it
                raise CheckpointError(_not_a_checkpoint(path))
        with safe_loading():
            content = torch.load(path, map_location='cpu', weights_only=not _TRUSTED.get())
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f'cannot read {path}: {error.strerror or error}') from error
    except Exception as error:  # whatever a damaged file makes the readers raise, the file is what is wrong
        raise CheckpointError(_refusal(path) or _not_a_checkpoint(path)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not a checkpoint dict')
    return dict(content)


def fetch(source: str | Path) -> Path:
    """The file behind a path or URL, downloaded if need be.

    Raises:
        CheckpointError: no such file, or it cannot be downloaded.
    """
    path = _download(str(source)) if urlparse(str(source)).scheme in ('http', 'https') else Path(source)
    if not path.is_file():
        raise CheckpointError(
            f'no checkpoint at {path}: {"that is a folder" if path.is_dir() else "check the path"}'
        )
    return path


def _read_safetensors(path: Path) -> dict:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f'reading {path} needs the package safetensors: pip install safetensors'
        ) from error
    try:
        with safe_open(path, framework='pt') as file:
            return dict(state_dict={k: file.get_tensor(k) for k in file.keys()}, meta=file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(_not_a_checkpoint(path)) from error


def unwrap_state_dict(content: Mapping) -> dict[str, Tensor]:
    """The state dict in a checkpoint: under ``state_dict`` or ``model`` or bare, without a ``module.`` prefix.

    Raises:
        CheckpointError: no tensors in it.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f'no tensors in the checkpoint, its keys are {sorted(map(str, content))[:8]}')
    if all(k.startswith('module.') for k in tensors):
        tensors = {k.removeprefix('module.'): v for k, v in tensors.items()}
    return tensors


def write_state_dict(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write ``.safetensors`` or ``.pth`` (chosen by the suffix): the whole file or nothing.

    Raises:
        CheckpointError: another suffix, or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix not in ('.safetensors', '.pth'):
        raise CheckpointError(f'cannot write {path}: the name must end in .safetensors or .pth')
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with replacing(path) as temporary:
        if path.suffix == '.safetensors':
            from safetensors.torch import save_file

            save_file(tensors, temporary, metadata={'format': 'pt', **metadata})
        else:
            torch.save({'state_dict': tensors, 'meta': dict(metadata)}, temporary)


@contextmanager
def trusting_pickles(trusted: bool = True) -> Iterator[None]:
    """While this is entered, checkpoints may run code: for files of your own that hold more than data (``--trust-pickle``)."""
    token = _TRUSTED.set(trusted)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


@contextmanager
def safe_loading() -> Iterator[None]:
    """While this is entered, ``torch.load`` reads data alone, whoever calls it, but what published files and mmengine's checkpoints hold.

    Plain records only: argparse's namespace, numpy arrays and numbers, mmengine's log buffers. Where pickles are trusted nothing changes.
    """
    if _TRUSTED.get():
        yield
        return
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = '1'  # libraries try weights_only=False after a refusal
    try:
        with torch.serialization.safe_globals(_allowed()):
            yield
    finally:
        os.environ.pop(_FORCE)
        if before is not None:
            os.environ[_FORCE] = before


def _allowed() -> list:
    import numpy as np

    multiarray = sys.modules[
        np.zeros(1).__reduce__()[0].__module__
    ]  # numpy._core.multiarray; numpy 1: numpy.core.multiarray
    allowed: list = [argparse.Namespace, np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar]
    allowed += {type(np.dtype(t)) for t in 'bBhHiIlLqQefd?'}
    if 'mmengine' in sys.modules:
        from mmengine.logging import HistoryBuffer

        def history_method(owner: object, name: str) -> object:
            """What the log buffers need of ``getattr``, and no more."""
            if owner is not HistoryBuffer or name not in (
                'min',
                'max',
                'mean',
                'current',
                'data',
                'statistics',
            ):
                raise UnpicklingError(f'refused getattr({owner!r}, {name!r})')
            return getattr(owner, name)

        allowed += [HistoryBuffer, (history_method, 'builtins.getattr')]
    return allowed


def _refusal(path: Path) -> str:
    """What a pickle wants to run, in words; '' where it is only damaged. Runs nothing of it."""
    wanted: list[str] = []
    with suppress(Exception), safe_loading():  # damaged beyond asking: then it is only that
        if path.open('rb').read(2) == b'PK':
            wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        else:
            strings: list[str] = []
            for opcode, argument, _ in pickletools.genops(path.open('rb')):
                if opcode.name == 'GLOBAL':
                    wanted.append(argument.replace(' ', '.'))
                elif opcode.name == 'STACK_GLOBAL':
                    wanted.append('.'.join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
            wanted = [name for name in wanted if not name.startswith(('torch.', 'collections.OrderedDict'))]
    if not wanted:
        return ''
    what = ', '.join(wanted)
    return f'refused to read {path}: the pickle wants to run {what}, which is code, not weights (--trust-pickle: for your own files)'


def _not_a_checkpoint(path: Path) -> str:
    return f'{path} is not a checkpoint ({path.stat().st_size} bytes): expected a whole .safetensors file or one of torch.save'


def _download(url: str) -> Path:
    """Fetch once into torch's hub folder: the first process does it, all others, of this run or another, wait for the file."""
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f'{path.name}.lock')):
            if not path.is_file():
                log(f'downloading {url} to {path}. {LICENCE_NOTE}')
                torch.hub.download_url_to_file(url, str(path))
    except OSError as error:
        reason = getattr(error, 'reason', error)
        raise CheckpointError(
            f'cannot download {url} ({reason}): put the file at {path}; training starts without with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    return path
