"""Reading and writing weight files: never runs code from a file, never leaves half a file."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from torch import Tensor

from .errors import CheckpointError

LICENCE_NOTE = (
    'The published FasterViT weights are under a non-commercial licence (NVIDIA Source Code License-NC / CC BY-NC-SA 4.0): see NOTICE.'
)


def log(message: str) -> None:
    """To mmengine's current logger where a run has one, else to ``logging``."""
    if 'mmengine' in sys.modules:
        from mmengine.logging import print_log

        print_log(message, logger='current')
    else:
        logging.getLogger('fastervit_backbone').info(message)


def read_checkpoint(source: str | Path) -> dict:
    """Everything in a weight file, on the CPU.

    Args:
        source: path or http(s) URL of a ``.safetensors`` or a pickled (``.pth``, ``.pth.tar``, ``.pt``) file.

    Returns:
        the pickled dict; for safetensors the state dict.

    Raises:
        CheckpointError: not there, not downloadable, not a checkpoint, or a pickle that asks for more than data.
    """
    path = Path(_download(str(source)) if urlparse(str(source)).scheme in ('http', 'https') else source)
    if not path.is_file():
        raise CheckpointError(f'no checkpoint at {path}: check the path (a folder or a missing file is there)')
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            with torch.serialization.safe_globals(_allowed_globals()):
                content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever a damaged file makes the readers raise, the file is what is wrong
        raise CheckpointError(_explain(path, error)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not a checkpoint dict')
    return dict(content)


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
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when it does not.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}')
        temporary.touch()
    except OSError as error:
        raise CheckpointError(f'cannot write {path}: {error.strerror}') from error
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _allowed_globals() -> list:
    """What published files and mmengine's checkpoints hold beside tensors: plain records, no code."""
    import numpy as np

    multiarray = np.zeros(1).__reduce__()[0].__module__  # numpy._core.multiarray, numpy 1: numpy.core.multiarray
    allowed: list = [argparse.Namespace, np.ndarray, np.dtype, *{type(np.dtype(t)) for t in 'bBhHiIlLqQefd?'}]
    allowed += [getattr(sys.modules[multiarray], name) for name in ('_reconstruct', 'scalar')]
    if 'mmengine' in sys.modules:
        from mmengine.logging import HistoryBuffer

        def history_method(owner: object, name: str) -> object:
            """What mmengine's log buffers need of ``getattr``, and no more."""
            if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current', 'data', 'statistics'):
                raise UnpicklingError(f'refused getattr({owner!r}, {name!r})')
            return getattr(owner, name)

        allowed += [HistoryBuffer, (history_method, 'builtins.getattr')]
    return allowed


def _explain(path: Path, error: Exception) -> str:
    if path.suffix != '.safetensors':
        try:
            with torch.serialization.safe_globals(_allowed_globals()):
                wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # not a zip archive of torch's: nothing to ask
            wanted = []
        if wanted:
            return f'refused to read {path}: the pickle wants to run {", ".join(wanted)}, which is code, not weights'
        if 'Unsupported global' in str(error) or 'Unsupported operand' in str(error) or 'Can only' in str(error):
            return f'refused to read {path}: the pickle asks for more than tensors ({str(error).splitlines()[0]})'
    return (
        f'{path} is not a checkpoint ({path.stat().st_size} bytes, {type(error).__name__}): expected .safetensors or a file of torch.save'
    )


def _download(url: str) -> Path:
    """Fetch once into torch's hub folder; the first local process does it, the others wait."""
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not path.is_file() and int(os.environ.get('LOCAL_RANK', '0')) == 0:
        log(f'downloading {url} to {path}. {LICENCE_NOTE}')
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            reason = getattr(error, 'reason', error)
            raise CheckpointError(
                f'cannot download {url} ({reason}): put the file at {path}, or start without it: --cfg-options model.backbone.init_cfg=None'
            ) from error
    if distributed:
        torch.distributed.barrier()
    return path
