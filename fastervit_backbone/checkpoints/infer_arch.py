"""Infer the variant of a weight file from the shapes in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.arch import ARCHS, NUM_STAGES, ArchSpec
from ..models.fastervit import FasterViT
from ..models.layers.low_rank import is_adapter
from ..utils.errors import CheckpointError
from .declared import FIELDS, Declared


@dataclass(frozen=True)
class FileArch:
    """Variant of a weight file.

    Attributes:
        spec: its hyperparameters; if several of ARCHS match, those of the first, whose windows may not be the
            file's.
        names: names in ARCHS that match: none, one, or several that differ only in windows, which leave no
            trace in weights.
        in_chans: channels of the images.
        known: the fields that are known although they leave no trace in weights: all of them, the sizes of
            windows and carriers, or none.
    """

    spec: ArchSpec
    names: tuple[str, ...]
    in_chans: int = 3
    known: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name for messages: ``'2'``, ``'unknown'``, or all possible names."""
        return ' or '.join(self.names) or 'unknown'

    @property
    def name(self) -> str:
        """The name if there is exactly one, else ''."""
        return self.names[0] if len(self.names) == 1 else ''


def infer_arch(
    file_name: str,
    tensors: Mapping[str, Tensor],
    rebuilt: Mapping[str, Tensor] | None = None,
    declared: Declared | None = None,
) -> FileArch:
    """Infer a variant from the shapes of its tensors.

    What leaves no trace in them comes from what the file declares, or from the variant in ARCHS that matches
    otherwise; window and carrier sizes of published files from the derived buffers.

    Args:
        file_name: name of the file in errors.
        tensors: its tensors under our names.
        rebuilt: its derived position buffers under the published names.
        declared: what the file declares; used if it agrees with the tensors.

    Raises:
        CheckpointError: a part of the backbone is missing.
    """
    rebuilt = rebuilt or {}
    stem = tensors.get('stem.conv1.weight', tensors.get('stem.proj.weight'))
    in_chans = 3 if stem is None else stem.shape[1]
    if declared is not None and _agrees(declared.spec, in_chans, tensors):
        return FileArch(declared.spec, declared.names, in_chans, FIELDS)
    try:
        spec = _spec_of(tensors, rebuilt)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f'{file_name} is not a complete FasterViT ({error})') from error
    names = [name for name, known in ARCHS.items() if _matches(known, spec)]
    if not names:
        return FileArch(spec, (), in_chans, ('window_sizes', 'carrier_size') if rebuilt else ())
    if not rebuilt:
        return FileArch(ARCHS[names[0]], tuple(names), in_chans)
    same_windows = (n for n in names if ARCHS[n].window_sizes[2:] == spec.window_sizes[2:])
    name = next(same_windows, names[0])
    known = replace(ARCHS[name], window_sizes=spec.window_sizes, carrier_size=spec.carrier_size)
    return FileArch(known, (name,), in_chans, FIELDS)


def _agrees(spec: ArchSpec, in_chans: int, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of stem and stages, as far as they are there, are those of a variant."""
    with torch.device('meta'):
        shapes = {k: v.shape for k, v in FasterViT(spec, in_chans=in_chans).state_dict().items()}
    names = [k for k in tensors if k.startswith(('stem.', 'stages.')) and not is_adapter(k)]
    return all(shapes.get(k) == tensors[k].shape for k in names)


def _spec_of(tensors: Mapping[str, Tensor], rebuilt: Mapping[str, Tensor]) -> ArchSpec:
    is_patched = 'stem.proj.weight' in tensors
    dim, stem_dim = tensors['stem.proj.weight' if is_patched else 'stem.conv2.weight'].shape[:2]
    depths, conv, heads = [], [], []
    with_carriers: list[int] = []  # blocks
    for i in range(NUM_STAGES):
        prefix = f'stages.{i}.blocks.'
        depths.append(len({key.split('.')[3] for key in tensors if key.startswith(prefix)}))
        with_carriers += [int(k.split('.')[3]) for k in tensors if re.match(rf'{prefix}\d+\.carrier\.', k)]
        conv.append(f'{prefix}0.conv1.weight' in tensors)
        if not conv[-1]:
            heads.append(tensors[f'{prefix}0.bias.fc2.weight'].shape[0])
    heads = [
        max(heads[0] // 2 ** (NUM_STAGES - len(heads) - i), 1) for i in range(NUM_STAGES - len(heads))
    ] + heads
    hidden, width = tensors['stages.2.blocks.0.layer.mlp.fc1.weight'].shape
    windows, carrier_size = [7, 7], 2
    for i in (2, 3):
        window_buffer = rebuilt.get(f'levels.{i}.blocks.0.pos_embed.relative_bias')
        window = 7 if window_buffer is None else round(window_buffer.shape[1] ** 0.5)
        windows.append(window)
        joined_buffer = rebuilt.get(f'levels.{i}.blocks.0.attn.pos_emb_funct.relative_bias')
        num_carriers = 0 if joined_buffer is None else joined_buffer.shape[-1] - window**2
        if num_carriers > 0:
            carrier_size = round(num_carriers**0.5)
    hat = tuple(f'stages.{i}.tokenizer.conv.weight' in tensors for i in range(NUM_STAGES))
    return ArchSpec(
        dim=dim,
        stem_dim=dim if is_patched else stem_dim,
        depths=tuple(depths),
        num_heads=tuple(heads),
        window_sizes=tuple(windows),
        carrier_size=carrier_size,
        hat=hat,
        hat_every=min(with_carriers, default=0) + 1,
        layer_scale=1e-5 if 'stages.2.blocks.0.layer.scale1' in tensors else None,
        mlp_ratio=hidden / width,
        conv=tuple(conv),
        stem='patch' if is_patched else 'conv',
        downsample='merge' if 'stages.0.downsample.reduction.weight' in tensors else 'conv',
    )


_VISIBLE_FIELDS = (
    'dim', 'stem_dim', 'depths', 'hat', 'hat_every', 'mlp_ratio', 'conv', 'stem', 'downsample',
)  # fmt: skip


def _matches(known: ArchSpec, spec: ArchSpec) -> bool:
    """Whether two specs agree in everything that can be inferred from weights."""
    return (
        all(getattr(known, f) == getattr(spec, f) for f in _VISIBLE_FIELDS)
        and known.num_heads[2:] == spec.num_heads[2:]
        and (known.layer_scale is None) == (spec.layer_scale is None)
    )


def describe_differences(found: FileArch, model: ArchSpec, in_chans: int = 3) -> str:
    """Describe how the file's variant differs from the model's, and name the file's arch.

    Args:
        found: of the file.
        model: the model's.
        in_chans: channels of the model's images.

    Returns:
        a sentence with a remedy; '' if the weights show no difference.
    """
    differences, file = [], found.spec
    for i in (2, 3):
        if file.num_heads[i] != model.num_heads[i]:
            differences.append(
                f'{file.num_heads[i]} heads in stage {i + 1} where the model has {model.num_heads[i]}'
            )
        if file.hat[i] != model.hat[i]:
            differences.append(f'{"carrier tokens" if file.hat[i] else "no carrier tokens"} in stage {i + 1}')
    for name in _VISIBLE_FIELDS:
        if name != 'hat' and getattr(file, name) != getattr(model, name):
            differences.append(f'{name}={getattr(file, name)} where the model has {getattr(model, name)}')
    if found.in_chans != in_chans:
        differences.append(f'{found.in_chans} channels where the model has in_chans={in_chans}')
    if not differences:
        return ''
    remedy = 'it is not a variant of the paper'
    if found.spec == model:
        remedy = f'use in_chans={found.in_chans}'
    elif found.names:
        remedy = f'use arch={" or ".join(map(repr, found.names))}'
    return f'this file has {", ".join(differences)}: {remedy}; '
