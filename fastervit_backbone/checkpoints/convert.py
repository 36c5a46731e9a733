"""Extract the backbone of a published file into a small file with our keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..models.fastervit import FasterViT
from ..utils.errors import CheckpointError
from .declared import FIELDS, declare
from .infer_arch import infer_arch
from .io import read_checkpoint, unwrap_state_dict, write_state_dict
from .published import LoadReport, place_tensors, read_tensors


def convert_checkpoint(source: str | Path, target: str | Path, *, half: bool = False) -> LoadReport:
    """Write a published file's backbone with our keys, without optimizer, buffers and classifier.

    Args:
        source: path or URL, as for :func:`load_published`.
        target: a ``.safetensors`` or ``.pth`` file.
        half: write matrices and convolutions in float16; models load them in their own dtype.

    Raises:
        CheckpointError: see :func:`load_published` and :func:`write_state_dict`.
    """
    refuse_same_file(source, target)
    content = read_checkpoint(source)
    if is_released_dino(unwrap_state_dict(content)):
        raise CheckpointError(
            f'{source} is the DINO that the authors released, a whole detector: `fastervit '
            'convert-checkpoint` converts it, in Python fastervit_paper.released_dino.convert_checkpoint'
        )
    return convert_content(content, source, target, half)


def convert_content(
    content: Mapping[str, Any], source: str | Path, target: str | Path, half: bool
) -> LoadReport:
    """Convert what was read from ``source``; otherwise like :func:`convert_checkpoint`."""
    file = read_tensors(content, str(source))
    # output norms are in a detector's checkpoint; they are trained, and kept
    norms = sorted({int(k.split('.')[1]) for k in file.tensors if k.startswith('out_norms.')})
    out_norm: Literal['ln', 'bn'] | None = None
    if norms:
        out_norm = 'bn' if f'out_norms.{norms[0]}.running_mean' in file.tensors else 'ln'
    found = infer_arch(file.name, file.tensors, file.rebuilt, file.declared)
    with torch.device('meta'):
        net = FasterViT(
            found.spec, out_norm=out_norm, out_indices=tuple(norms) or (0, 1, 2, 3), in_chans=found.in_chans
        )
    tensors, report = place_tensors(net, file)
    if half:
        tensors = {k: v.half() if v.is_floating_point() and v.ndim > 1 else v for k, v in tensors.items()}
        infinite = [k for k, v in tensors.items() if not v.isfinite().all()]
        if infinite:
            raise CheckpointError(f'{infinite[0]} has values beyond float16: write float32')
    declaration = declare(found.spec, found.in_chans) if found.known == FIELDS else {}
    write_state_dict(tensors, target, declaration | {'source': Path(file.name).name})
    return report


def refuse_same_file(source: str | Path, target: str | Path) -> None:
    """Raise CheckpointError if the output would replace the input."""
    if Path(target).exists() and Path(source).exists() and Path(target).samefile(source):
        raise CheckpointError(f'{target} is the input: name another file for the output')


def is_released_dino(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict is that detector's."""
    return 'transformer.level_embed' in tensors and any(k.startswith('backbone.0.') for k in tensors)
