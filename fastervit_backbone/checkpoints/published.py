"""Map published weights to our keys with a table of names; no tensor is lost silently."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..models.arch import NUM_STAGES, ArchSpec
from ..models.layers.low_rank import fitted_adapters, is_adapter
from ..utils.errors import CheckpointError
from ..utils.log import log
from .declared import Declared, read_declared, silent_differences
from .infer_arch import FileArch, describe_differences, infer_arch
from .io import read_checkpoint, unwrap_state_dict
from .key_tables import DROPPED, KEY_TABLE, REBUILT, SWIN_TABLE
from .stem import adapt_stem

if TYPE_CHECKING:
    from ..models.fastervit import FasterViT

__all__ = ['LoadReport', 'check_fit', 'load_published']


#: Ends of the names of options that published files lack; their initial values change nothing.
_OPTIONAL = ('.gate', 'stem.patches.weight', 'stem.patches.bias')


@dataclass(frozen=True)
class LoadReport:
    """What happened to every tensor; ``str(report)`` is one line.

    Attributes:
        source: the file, or 'state dict'.
        arch: name of the file's variant, 'unknown' if it is not in ARCHS; all possible names if weights
            cannot tell.
        loaded: our names that were loaded.
        rebuilt: the file's derived position buffers, computed anew for every size.
        dropped: the file's tensors that the backbone does not use (classifier, other parts of a detector,
            stages that were not built).
        fresh: our names that keep their initial values (output norms).
        note: a difference worth knowing, or ''.
    """

    source: str
    arch: str
    loaded: tuple[str, ...]
    rebuilt: tuple[str, ...]
    dropped: tuple[str, ...]
    fresh: tuple[str, ...]
    note: str = ''

    def __str__(self) -> str:
        parts = [
            f'{self.source} (arch {self.arch!r}): {len(self.loaded)} tensors loaded',
            f'{len(self.rebuilt)} position buffers rebuilt',
            f'{len(self.dropped)} dropped' + (f' ({_abbreviate(self.dropped)})' if self.dropped else ''),
        ]
        if self.fresh:
            parts.append(f'{len(self.fresh)} newly initialized ({_abbreviate(self.fresh)})')
        return ', '.join(parts) + (f'; {self.note}' if self.note else '')


def load_published(net: 'FasterViT', source: str | Path | Mapping[str, Any]) -> LoadReport:
    """Load weights into a backbone, from a published file, one of ours or a detector's checkpoint.

    Args:
        net: the backbone; changed only if everything fits.
        source: path, http(s) URL, ``fastervit://nano`` (in this package), or a (wrapped) state dict.

    Returns:
        the report, also logged on one line.

    Raises:
        CheckpointError: the file cannot be read, or has missing (apart from new output norms) or unexpected
            tensors; the message names them and, if it can be inferred, the arch of the file.
    """
    tensors, report = place_tensors(net, read_tensors(source))
    net.load_state_dict(tensors, strict=False)
    log(str(report))
    return report


def check_fit(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    name: str,
    partial: bool = False,
    meta: object = None,
) -> None:
    """Check the state dict of a whole model before a loader that would only warn.

    Differences of the backbone that leave no trace in the tensors (windows, ...) are logged.

    Args:
        model: a detector or segmenter, or a backbone.
        tensors: the state dict, without ``module.``.
        name: name of the file in errors.
        partial: require only that the backbone fits (to start with other classes or another head).
        meta: metadata of the file.

    Raises:
        CheckpointError: missing, unexpected or differently shaped tensors; names them and, for a FasterViT,
            the arch of the file.
    """
    expected = model.state_dict()
    problems = _compare(expected, tensors)
    if partial and any(k.startswith('backbone.') for k in expected):
        problems = _compare(_only_backbone(expected), _only_backbone(tensors))
    backbones = {
        f'{prefix}.' if prefix else '': module
        for prefix, module in model.named_modules()
        if isinstance(getattr(module, 'spec', None), ArchSpec)
    }
    if not problems:
        if declared := read_declared(meta, name):
            for module in backbones.values():
                if differences := silent_differences(declared.spec, module.spec, len(module.stages)):
                    log(f'{name}: {differences}')
        return
    hint = ''
    has_stem = any(k.startswith(('stem.', 'patch_embed.')) for k in tensors)
    if has_stem and not any(k.startswith('stem.') for k in expected):
        hint = 'it is only a backbone, for model.backbone.init_cfg; '
    for prefix, module in backbones.items():
        inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        with suppress(CheckpointError):
            hint = describe_differences(infer_arch(name, inside), module.spec, module.in_chans)
    if any(map(is_adapter, tensors)) and not any(map(is_adapter, expected)):
        hint = 'it has the adapters of finetune --tune adapters, which are merged in best.pth of its run; '
    raise CheckpointError(f'{name} does not fit the model: {hint}{problems}')


def _only_backbone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in tensors.items() if k.startswith('backbone.')}


def _compare(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Describe why ``tensors`` do not fit; '' if they do."""
    missing = [
        k
        for k in expected
        if k not in tensors and not k.endswith('num_batches_tracked') and not is_adapter(k)
    ]
    unexpected = [k for k in tensors if k not in expected]
    mismatched = [
        f'{k} {tuple(v.shape)}, expected {tuple(expected[k].shape)}'
        for k, v in tensors.items()
        if k in expected and v.shape != expected[k].shape
    ]
    problems = (('of another shape', mismatched), ('missing', missing), ('unexpected', unexpected))
    return '; '.join(f'{len(names)} {kind} ({_abbreviate(names)})' for kind, names in problems if names)


@dataclass
class FileContent:
    """Content of a weight file.

    Attributes:
        name: name of the file in errors.
        tensors: tensors of the backbone, under our names.
        rebuilt: derived position buffers, under the file's names.
        dropped: names of all other tensors.
        declared: the backbone as the file declares it, which is the only trace of windows in it.
        is_partial: another model's file, which has only some of the tensors (Swin's).
    """

    name: str
    tensors: dict[str, Tensor]
    rebuilt: dict[str, Tensor] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    declared: Declared | None = None
    is_partial: bool = False


def read_tensors(source: str | Path | Mapping[str, Any], name: str = '') -> FileContent:
    """Read a file or state dict and sort its tensors.

    Args:
        source: path, URL, or the content of a file.
        name: of that file, in errors.

    Raises:
        CheckpointError: the file cannot be read, or has tensors that do not belong to a FasterViT.
    """
    name = name or ('state dict' if isinstance(source, Mapping) else str(source))
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    tensors = unwrap_state_dict(content)
    file = FileContent(name, {}, declared=read_declared(content.get('meta'), name))
    if any(k.startswith('backbone.') for k in tensors):
        file.dropped = [k for k in tensors if not k.startswith('backbone.')]
        tensors = {k.removeprefix('backbone.'): v for k, v in _only_backbone(tensors).items()}
    if any(k.startswith(('stem.', 'stages.')) for k in tensors):
        file.tensors = tensors
        return file
    unexpected = []
    file.is_partial = any(k.endswith('.relative_position_bias_table') for k in tensors)
    if file.is_partial and 'layers.0.downsample.norm.weight' not in tensors:  # timm's: at the stage after it
        tensors = {re.sub(r'layers\.(\d)\.downsample', _before, k): v for k, v in tensors.items()}
    for key, value in tensors.items():
        our_key = rename(key, SWIN_TABLE if file.is_partial else KEY_TABLE)
        if our_key is None:
            unexpected.append(key)
        elif our_key == REBUILT:
            file.rebuilt[key] = value
        elif our_key == DROPPED:
            file.dropped.append(key)
        elif our_key in file.tensors and not torch.equal(file.tensors[our_key], value):
            raise CheckpointError(f'{name}: {key} and its alias are one tensor but hold different values')
        else:
            file.tensors[our_key] = value
    if unexpected:
        problem = f'has {len(unexpected)} unexpected tensor(s)' if file.tensors else 'is not a FasterViT'
        raise CheckpointError(f'{name} {problem}: {_abbreviate(unexpected)}')
    return file


def _before(match: re.Match) -> str:
    return f'layers.{int(match[1]) - 1}.downsample'


def rename(key: str, table: Sequence[tuple[str, str]]) -> str | None:
    """Return our name of a published tensor, REBUILT or DROPPED; None for an unknown tensor."""
    for pattern, replacement in table:
        match = re.match(pattern, key)
        if match:
            if replacement in (REBUILT, DROPPED):
                return replacement
            return match.expand(replacement) + key[match.end() :]
    return None


def place_tensors(net: 'FasterViT', file: FileContent) -> tuple[dict[str, Tensor], LoadReport]:
    """Fit a file to a network by name and shape, its stem also to other channels; changes neither.

    Raises:
        CheckpointError: missing, unexpected or differently shaped tensors.
    """
    expected = net.state_dict()
    file.tensors, adapted = adapt_stem(fitted_adapters(file.tensors, expected), expected)
    classifiers_norm = _classifiers_norm(file.tensors, expected)
    unused = [
        k
        for k in file.tensors
        if k in classifiers_norm or (k not in expected and _belongs_to_unbuilt(k, net))
    ]
    tensors = {k: v for k, v in file.tensors.items() if k not in set(unused)}
    loaded_norms = {k.split('.')[1] for k in tensors if k.startswith('out_norms.')}
    fresh = [k for k in expected if k.startswith('out_norms.') and k.split('.')[1] not in loaded_norms]
    fresh += [k for k in expected if k not in tensors and k.endswith(_OPTIONAL)]
    if file.is_partial:
        fresh = [k for k in expected if k not in tensors]
    problems = _compare({k: v for k, v in expected.items() if k not in set(fresh)}, tensors)
    try:
        found = infer_arch(file.name, file.tensors, file.rebuilt, file.declared)
    except CheckpointError:
        found = FileArch(net.spec, (), net.in_chans)  # stages are missing: compare only the tensors
    if problems:
        differences = describe_differences(found, net.spec, net.in_chans)
        raise CheckpointError(f'{file.name} does not fit this backbone: {differences}{problems}')
    differences = silent_differences(found.spec, net.spec, len(net.stages), found.known)
    note = '; '.join(filter(None, (differences, adapted)))
    report = LoadReport(
        source=file.name,
        arch=found.label,
        loaded=tuple(tensors),
        rebuilt=tuple(file.rebuilt),
        dropped=(*file.dropped, *unused),
        fresh=tuple(fresh),
        note=note,
    )
    return tensors, report


def _belongs_to_unbuilt(key: str, net: 'FasterViT') -> bool:
    """Whether a tensor belongs to a stage, downsample or output norm that ``out_indices`` leaves out."""
    if key.startswith('out_norms.'):
        return key.split('.')[1] not in net.out_norms
    last = len(net.stages) - 1
    unbuilt = [f'stages.{i}.' for i in range(last + 1, NUM_STAGES)]
    if unbuilt:
        unbuilt.append(f'stages.{last}.downsample.')
    return key.startswith(tuple(unbuilt))


def _classifiers_norm(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> set[str]:
    """Return the tensors of a classifier's BatchNorm, on its only output, if the network has another norm."""
    last = f'out_norms.{NUM_STAGES - 1}.'
    found = {k for k in tensors if k.startswith('out_norms.')}
    is_classifiers = f'{last}running_mean' in found and all(k.startswith(last) for k in found)
    return found if is_classifiers and f'{last}running_mean' not in expected else set()


def _abbreviate(names: Sequence[str], at_most: int = 4) -> str:
    more = f', and {len(names) - at_most} more' if len(names) > at_most else ''
    return ', '.join(names[:at_most]) + more
