"""Compile a backbone with ``torch.compile``: what it needs on this machine, and how it is done everywhere."""

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..utils.errors import UserError


def compile_backbone(model: nn.Module, device: str | torch.device) -> None:
    """Compile the backbone of a detector, segmenter or classifier in place.

    Raises:
        UserError: see :func:`compile_in_place`, or a model without a backbone.
    """
    backbone = getattr(getattr(model, 'module', model), 'backbone', None)  # module: in several processes
    if not isinstance(backbone, nn.Module):
        raise UserError(f'--compile: {type(model).__name__} has no backbone to compile: leave --compile out')
    compile_in_place(backbone, device)


def compile_in_place(module: nn.Module, device: str | torch.device) -> None:
    """Let a module run compiled from its next call on; names and values of its weights stay as they are.

    The first call of each mode (training, evaluation) compiles for its image size, the first of another size
    compiles for any size. On a CPU a call that compiles takes a minute or more (docs/benchmarks).

    Args:
        module: a backbone.
        device: where it will run.

    Raises:
        UserError: something that compiling needs is not there; the message names it.
    """
    check_compiler(device)
    module.compile(**_arguments())


def _arguments() -> dict[str, Any]:
    """Return the arguments of ``torch.compile``."""
    if not hasattr(torch._inductor.config, 'strict_output_strides'):
        return {}
    # without it, torch 2.14 fails on gradients of a backbone for any size (it orders symbolic strides)
    return dict(options=dict(strict_output_strides=True))


def check_compiler(device: str | torch.device) -> None:
    """Raise UserError if torch cannot compile for a device; the message names what to install."""
    problem, is_cuda = '', torch.device(device).type == 'cuda'
    variable, names = ('CC', ('gcc', 'clang')) if is_cuda else ('CXX', ('g++',))
    given = os.environ.get(variable)
    if is_cuda and find_spec('triton') is None:
        problem = 'torch.compile needs the package triton on a GPU: install it'
    elif not any(map(shutil.which, [given] if given else names)):
        kind = 'C' if is_cuda else 'C++'
        problem = f'torch.compile finds no {kind} compiler: install {names[0]} or set {variable}'
    elif not (Path(sysconfig.get_path('include')) / 'Python.h').is_file():
        problem = "torch.compile needs Python's headers (Python.h): install python3-dev (Debian)"
    if problem:
        raise UserError(f'--compile: {problem}, or leave --compile out')
