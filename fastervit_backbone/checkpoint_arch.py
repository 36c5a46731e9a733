"""Which variant a weight file is, from the shapes in it."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from .arch import ARCHS, ArchSpec
from .errors import CheckpointError


def infer_spec(name: str, ours: Mapping[str, Tensor], rebuilt: Mapping[str, Tensor] | None = None, declared: str = '') -> ArchSpec:
    """Read a variant off its tensors' shapes; window and carrier sizes off the derived buffers, or what a file of ours says it is.

    Propagation and the start value of the layer scales leave no trace: they come from the variant of ours that agrees in the rest.

    Args:
        name: what to call the file in errors.
        ours: its tensors under our names.
        rebuilt: its derived position buffers under the published names.
        declared: the variant that the file says it is; counts if it agrees with the tensors.

    Raises:
        CheckpointError: a part of the backbone is not there.
    """
    rebuilt = rebuilt or {}
    try:
        dim, stem_dim = ours['stem.conv2.weight'].shape[:2]
        depths = [len({k.split('.')[3] for k in ours if k.startswith(f'stages.{i}.blocks.')}) for i in range(4)]
        heads = [ours[f'stages.{i}.blocks.0.bias.fc2.weight'].shape[0] for i in (2, 3)]
        hidden, width = ours['stages.2.blocks.0.layer.mlp.fc1.weight'].shape
        windows, carrier_size = [7, 7], 2
        for i in (2, 3):
            positions = rebuilt.get(f'levels.{i}.blocks.0.pos_embed.relative_bias')
            windows.append(7 if positions is None else round(positions.shape[1] ** 0.5))
            joined = rebuilt.get(f'levels.{i}.blocks.0.attn.pos_emb_funct.relative_bias')
            if joined is not None and joined.shape[-1] > windows[i] ** 2:
                carrier_size = round((joined.shape[-1] - windows[i] ** 2) ** 0.5)
        spec = ArchSpec(
            dim=dim,
            stem_dim=stem_dim,
            depths=depths,
            num_heads=(max(heads[0] // 4, 1), max(heads[0] // 2, 1), *heads),
            window_sizes=windows,
            carrier_size=carrier_size,
            hat=[f'stages.{i}.tokenizer.conv.weight' in ours for i in range(4)],
            layer_scale=1e-5 if 'stages.2.blocks.0.layer.scale1' in ours else None,
            mlp_ratio=hidden / width,
        )
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f'{name} is not a whole FasterViT ({error})') from error
    names = _agreeing(spec)
    if declared in names:
        return ARCHS[declared]
    if not names:
        return spec
    known = ARCHS[arch_name(spec)]
    return replace(known, window_sizes=spec.window_sizes, carrier_size=spec.carrier_size) if rebuilt else known


_TRACES = ('dim', 'stem_dim', 'depths', 'hat', 'mlp_ratio')


def _agreeing(spec: ArchSpec) -> list[str]:
    """Names in ARCHS that agree in all that weights show."""
    return [
        arch
        for arch, known in ARCHS.items()
        if all(getattr(known, f) == getattr(spec, f) for f in _TRACES)
        and known.num_heads[2:] == spec.num_heads[2:]
        and (known.layer_scale is None) == (spec.layer_scale is None)
    ]


def arch_name(spec: ArchSpec) -> str:
    """The agreeing name in ARCHS; of several (they differ in windows) the one with these windows."""
    names = _agreeing(spec)
    return next((n for n in names if ARCHS[n].window_sizes[2:] == spec.window_sizes[2:]), names[0] if names else 'unknown')


def differences(file: ArchSpec, here: ArchSpec) -> str:
    """What tells two variants apart, in words that name the arch of the file; '' where weights show no difference."""
    told = []
    for i in (2, 3):
        if file.num_heads[i] != here.num_heads[i]:
            told.append(f'{file.num_heads[i]} heads in stage {i + 1} where the model has {here.num_heads[i]}')
        if file.hat[i] != here.hat[i]:
            told.append(f'{"carrier tokens" if file.hat[i] else "no carrier tokens"} in stage {i + 1}')
    told += [
        f'{f}={getattr(file, f)} where the model has {getattr(here, f)}'
        for f in _TRACES
        if f != 'hat' and getattr(file, f) != getattr(here, f)
    ]
    if not told:
        return ''
    name = arch_name(file)
    return f'this file has {", ".join(told)}: ' + (f'use arch={name!r}; ' if name != 'unknown' else 'it is no variant of the paper; ')
