"""Published weights into our keys: a table of names, no tensor lost without a word (DESIGN section 4)."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..models.arch import ArchSpec
from ..utils.errors import CheckpointError
from .infer_arch import FileArch, declared_arch, differences, infer_arch
from .io import log, read_checkpoint, unwrap_state_dict

if TYPE_CHECKING:
    from ..models.fastervit import FasterViT

__all__ = ['LoadReport', 'check_fit', 'load_published']

REBUILT, DROPPED = 'rebuilt', 'dropped'
_BLOCK = r'levels\.([23])\.blocks\.(\d+)\.'
#: Published name -> ours; the first pattern that matches counts. REBUILT: derived from the weights; DROPPED: not the backbone's.
KEY_TABLE: tuple[tuple[str, str], ...] = (
    (r'.*\.(?:relative_bias|relative_coords_table|relative_position_index)$', REBUILT),
    (r'(?:norm|head)\..*', DROPPED),
    (r'patch_embed\.conv_down\.0\.', r'stem.conv1.'),
    (r'patch_embed\.conv_down\.1\.', r'stem.norm1.'),
    (r'patch_embed\.conv_down\.3\.', r'stem.conv2.'),
    (r'patch_embed\.conv_down\.4\.', r'stem.norm2.'),
    (r'levels\.([01])\.blocks\.(\d+)\.(conv1|norm1|conv2|norm2)\.', r'stages.\1.blocks.\2.\3.'),
    (r'levels\.([012])\.downsample\.norm\.', r'stages.\1.downsample.norm.'),
    (r'levels\.([012])\.downsample\.reduction\.0\.', r'stages.\1.downsample.conv.'),
    (
        r'levels\.([23])\.global_tokenizer\.(?:to_global_feature\.pos|pos_embed)\.',
        r'stages.\1.tokenizer.conv.',
    ),
    (_BLOCK + r'pos_embed\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.position.fc1.'),
    (_BLOCK + r'pos_embed\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.position.fc2.'),
    (_BLOCK + r'attn\.pos_emb_funct\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.bias.fc1.'),
    (_BLOCK + r'attn\.pos_emb_funct\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.bias.fc2.'),
    (_BLOCK + r'(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.', r'stages.\1.blocks.\2.layer.\3.'),
    (_BLOCK + r'gamma3$', r'stages.\1.blocks.\2.layer.scale1'),
    (_BLOCK + r'gamma4$', r'stages.\1.blocks.\2.layer.scale2'),
    (_BLOCK + r'hat_pos_embed\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.carrier.position.fc1.'),
    (_BLOCK + r'hat_pos_embed\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.carrier.position.fc2.'),
    (_BLOCK + r'hat_attn\.pos_emb_funct\.cpb_mlp\.0\.', r'stages.\1.blocks.\2.carrier.bias.fc1.'),
    (_BLOCK + r'hat_attn\.pos_emb_funct\.cpb_mlp\.2\.', r'stages.\1.blocks.\2.carrier.bias.fc2.'),
    (
        _BLOCK + r'hat_(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.',
        r'stages.\1.blocks.\2.carrier.layer.\3.',
    ),
    (_BLOCK + r'gamma1$', r'stages.\1.blocks.\2.carrier.layer.scale1'),
    (_BLOCK + r'gamma2$', r'stages.\1.blocks.\2.carrier.layer.scale2'),
)


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor; ``str(report)`` is one line.

    Attributes:
        source: the file, or 'state dict'.
        arch: name of the file's variant, 'unknown' where it is none of ours; of several that weights cannot tell apart all names.
        loaded: our names that got a value.
        rebuilt: the file's derived position buffers, computed anew for every size.
        dropped: the file's tensors that the backbone has no use for (classifier, other parts of a detector, unbuilt stages).
        fresh: our names that keep their start values (output norms).
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
            f'{self.source} (arch {self.arch!r}): {len(self.loaded)} tensors loaded, {len(self.rebuilt)} position buffers rebuilt'
        ]
        parts.append(f'{len(self.dropped)} dropped ({_some(self.dropped)})' if self.dropped else '0 dropped')
        if self.fresh:
            parts.append(f'{len(self.fresh)} fresh ({_some(self.fresh)})')
        return ', '.join(parts) + (f'; {self.note}' if self.note else '')


def load_published(net: 'FasterViT', source: str | Path | Mapping) -> LoadReport:
    """Load weights into a backbone: a published FasterViT file, one of ours, or a detector's with a ``backbone.`` in it.

    Args:
        net: the backbone; changed only if everything fits.
        source: path, http(s) URL, or a (wrapped) state dict.

    Returns:
        the report, also logged on one line.

    Raises:
        CheckpointError: the file cannot be read, a learnable tensor has no home, or a parameter of ours (new output norms aside)
            has no value; the message names the tensor and, where it can tell, the arch that the file is.
    """
    tensors, report = place_tensors(net, read_tensors(source))
    net.load_state_dict(tensors, strict=False)
    log(str(report))
    return report


def check_fit(model: nn.Module, tensors: Mapping[str, Tensor], name: str, partial: bool = False) -> None:
    """Check a whole model's state dict before a loader that would only warn gets it.

    Args:
        model: a detector or segmenter, or a backbone.
        tensors: the state dict, without ``module.``.
        name: what to call it.
        partial: enough if the backbone fits (a start for other classes, or another head).

    Raises:
        CheckpointError: missing, homeless or differently shaped tensors; names them and, for a FasterViT, the arch of the file.
    """
    own = model.state_dict()
    problems = _compare(own, tensors)
    if partial and any(k.startswith('backbone.') for k in own):
        parts = ({k: v for k, v in one.items() if k.startswith('backbone.')} for one in (own, tensors))
        problems = _compare(*parts)
    if not problems:
        return
    hint = ''
    if any(k.startswith(('stem.', 'patch_embed.')) for k in tensors) and not any(
        k.startswith('stem.') for k in own
    ):
        hint = 'it is a backbone alone, for model.backbone.init_cfg; '
    for prefix, module in model.named_modules():
        if isinstance(spec := getattr(module, 'spec', None), ArchSpec):
            prefix = prefix + '.' if prefix else ''
            inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            with suppress(CheckpointError):
                hint = differences(infer_arch(name, inside), spec)
    raise CheckpointError(f'{name} does not fit the model: {hint}{problems}')


def _compare(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """What keeps ``tensors`` from filling ``own``, in words; '' where nothing does."""
    missing = [k for k in own if k not in tensors and not k.endswith('num_batches_tracked')]
    extra = [k for k in tensors if k not in own]
    shapes = [
        f'{k} {tuple(v.shape)}, here {tuple(own[k].shape)}'
        for k, v in tensors.items()
        if k in own and v.shape != own[k].shape
    ]
    found = (('of another shape', shapes), ('missing', missing), ('without a home', extra))
    return '; '.join(f'{len(what)} {kind} ({_some(what)})' for kind, what in found if what)


@dataclass
class FileContent:
    """What was read: tensors under our names, derived buffers and dropped tensors under the file's."""

    name: str
    ours: dict[str, Tensor]
    rebuilt: dict[str, Tensor] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    arch: str = ''  # what a file of ours says of itself; windows leave no other trace in one


def read_tensors(source: str | Path | Mapping) -> FileContent:
    name = 'state dict' if isinstance(source, Mapping) else str(source)
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    tensors = unwrap_state_dict(content)
    file = FileContent(name, {}, arch=declared_arch(content.get('meta')))
    if any(k.startswith('backbone.') for k in tensors):
        file.dropped = [k for k in tensors if not k.startswith('backbone.')]
        tensors = {k.removeprefix('backbone.'): v for k, v in tensors.items() if k.startswith('backbone.')}
    if any(k.startswith(('stem.', 'stages.')) for k in tensors):
        file.ours = tensors
        return file
    homeless = []
    for key, value in tensors.items():
        new = _rename(key)
        if new is None:
            homeless.append(key)
        elif new == REBUILT:
            file.rebuilt[key] = value
        elif new == DROPPED:
            file.dropped.append(key)
        elif new in file.ours and not torch.equal(file.ours[new], value):
            raise CheckpointError(
                f'{name}: two names of one tensor hold different values, {key} is the second'
            )
        else:
            file.ours[new] = value
    if homeless:
        what = (
            f'has {len(homeless)} tensor(s) that FasterViT has no place for'
            if file.ours
            else 'is no FasterViT'
        )
        raise CheckpointError(f'{name} {what}: {_some(homeless)}')
    return file


def _rename(key: str) -> str | None:
    for pattern, new in KEY_TABLE:
        match = re.match(pattern, key)
        if match:
            return new if new in (REBUILT, DROPPED) else match.expand(new) + key[match.end() :]
    return None


def place_tensors(net: 'FasterViT', file: FileContent) -> tuple[dict[str, Tensor], LoadReport]:
    """Fit a file to a network, by name and shape, or raise; nothing is changed."""
    own = net.state_dict()
    last = len(net.stages) - 1
    unbuilt = tuple(f'stages.{i}.' for i in range(last + 1, 4)) + (
        (f'stages.{last}.downsample.',) if last < 3 else ()
    )
    unused = [
        k
        for k in file.ours
        if k not in own
        and (k.startswith(unbuilt) or (k.startswith('out_norms.') and k.split('.')[1] not in net.out_norms))
    ]
    tensors = {k: v for k, v in file.ours.items() if k not in set(unused)}
    given = {k.split('.')[1] for k in tensors if k.startswith('out_norms.')}
    fresh = [k for k in own if k.startswith('out_norms.') and k.split('.')[1] not in given]
    problems = _compare({k: v for k, v in own.items() if k not in set(fresh)}, tensors)
    try:
        found = infer_arch(file.name, file.ours, file.rebuilt, file.arch)
    except CheckpointError:
        found = FileArch(net.spec, ())  # not all stages are in it: compare the tensors alone
    if problems:
        raise CheckpointError(
            f'{file.name} does not fit this backbone: {differences(found, net.spec)}{problems}'
        )
    note, spec = '', found.spec
    if file.rebuilt or found.name:
        pairs = [
            (f'window of stage {i + 1}', spec.window_sizes[i], net.spec.window_sizes[i])
            for i in range(2, last + 1)
        ]
        if any(net.spec.hat):
            pairs.append(('carriers a side', spec.carrier_size, net.spec.carrier_size))
        note = ', '.join(f'{what} {a} in the file, {b} here' for what, a, b in pairs if a != b)
    dropped = (*file.dropped, *unused)
    report = LoadReport(
        file.name, found.label, tuple(tensors), tuple(file.rebuilt), dropped, tuple(fresh), note
    )
    return tensors, report


def _some(names: tuple[str, ...] | list[str], at_most: int = 4) -> str:
    more = f', and {len(names) - at_most} more' if len(names) > at_most else ''
    return ', '.join(names[:at_most]) + more
