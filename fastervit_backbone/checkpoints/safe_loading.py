"""Restrict every torch.load to data, and describe the code that a file would run."""

import argparse
import os
import pickletools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..utils.trust import pickles_are_trusted

#: torch's own variable.
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


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


def refusal(path: Path) -> str:
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
