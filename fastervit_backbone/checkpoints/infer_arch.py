"""Which variant a weight file is, from the shapes in it."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..models.arch import ARCHS, ArchSpec
from ..utils.errors import CheckpointError


@dataclass(frozen=True)
class FileArch:
    """What a weight file says of its variant.

    Attributes:
        spec: its numbers; where several of ours agree, the first one's, whose windows may not be the file's.
        names: names in ARCHS that the file can be: none, one, or several that differ in windows, of which weights have no trace.
    """

    spec: ArchSpec
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        """For people: ``'2'``, ``'unknown'``, or all that it can be."""
        return ' or '.join(self.names) or 'unknown'

    @property
    def name(self) -> str:
        """The one name that it can be, else ''."""
        return self.names[0] if len(self.names) == 1 else ''


def infer_arch(
    name: str, ours: Mapping[str, Tensor], rebuilt: Mapping[str, Tensor] | None = None, declared: str = ''
) -> FileArch:
    """Read a variant off its tensors' shapes; window and carrier sizes off the derived buffers, or what the file itself says it is.

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
        depths = [
            len({k.split('.')[3] for k in ours if k.startswith(f'stages.{i}.blocks.')}) for i in range(4)
        ]
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
        return FileArch(ARCHS[declared], (declared,))
    if not names:
        return FileArch(spec, ())
    if rebuilt:  # the windows show
        names = [n for n in names if ARCHS[n].window_sizes[2:] == spec.window_sizes[2:]] or names[:1]
        return FileArch(
            replace(ARCHS[names[0]], window_sizes=spec.window_sizes, carrier_size=spec.carrier_size),
            (names[0],),
        )
    return FileArch(ARCHS[names[0]], tuple(names))


def declared_arch(meta: object) -> str:
    """The arch that a checkpoint says its backbone is: a file of ours by name, mmengine's in the config that it keeps as text; else ''.

    The text is parsed and never run.
    """
    if not isinstance(meta, Mapping):
        return ''
    if meta.get('arch'):
        return str(meta['arch'])
    try:
        body = ast.parse(str(meta.get('cfg') or '')).body
    except (SyntaxError, ValueError):
        return ''
    models = [
        n.value
        for n in body
        if isinstance(n, ast.Assign) and [getattr(t, 'id', '') for t in n.targets] == ['model']
    ]
    arch = _keyword(_keyword(models[-1] if models else None, 'backbone'), 'arch')
    return str(arch.value) if isinstance(arch, ast.Constant) else ''


def _keyword(call: ast.expr | None, name: str) -> ast.expr | None:
    """The value of a keyword in ``dict(...)``."""
    return (
        next((k.value for k in call.keywords if k.arg == name), None) if isinstance(call, ast.Call) else None
    )


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


def differences(found: FileArch, here: ArchSpec) -> str:
    """What tells two variants apart, in words that name the arch of the file; '' where weights show no difference."""
    told, file = [], found.spec
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
    use = (
        f'use arch={" or ".join(map(repr, found.names))}; '
        if found.names
        else 'it is no variant of the paper; '
    )
    return f'this file has {", ".join(told)}: {use}'
