"""Write the backbone of a published file as a small file in our keys."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..models.arch import ARCHS
from ..models.fastervit import FasterViT
from ..utils.errors import CheckpointError
from .infer_arch import infer_arch
from .io import write_state_dict
from .published import LoadReport, place_tensors, read_tensors


def convert_checkpoint(source: str | Path, target: str | Path) -> LoadReport:
    """Write a published file's backbone in our keys, without optimizer, buffers and classifier.

    Args:
        source: path or URL, as for :func:`load_published`.
        target: a ``.safetensors`` or ``.pth`` file.

    Raises:
        CheckpointError: as :func:`load_published`, or the target cannot be written.
    """
    if (
        not isinstance(source, Mapping)
        and Path(target).exists()
        and Path(source).exists()
        and Path(target).samefile(source)
    ):
        raise CheckpointError(f'{target} is the input: name another file for the output')
    file = read_tensors(source)
    norms = sorted(
        {int(k.split('.')[1]) for k in file.ours if k.startswith('out_norms.')}
    )  # a detector's, trained: kept
    out_norm = None if not norms else 'bn' if f'out_norms.{norms[0]}.running_mean' in file.ours else 'ln'
    with torch.device('meta'):
        net = FasterViT(
            infer_arch(file.name, file.ours, file.rebuilt, file.arch).spec,
            out_norm=out_norm,
            out_indices=tuple(norms) or (0, 1, 2, 3),
        )
    tensors, report = place_tensors(net, file)
    known = {'arch': report.arch} if report.arch in ARCHS else {}
    write_state_dict(tensors, target, known | {'source': Path(file.name).name})
    return report
