"""The FasterViT variants, one frozen row each (arXiv 2306.06189, table S.1, and the released models)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

NUM_STAGES = 4
#: Overall stride of each stage's map: 4 after the stem, doubled by every downsample.
STRIDES = (4, 8, 16, 32)
#: Values of fields that name a kind.
_KINDS = {
    'stem': ('conv', 'patch'),
    'downsample': ('conv', 'merge'),
}


@dataclass(frozen=True, kw_only=True)
class ArchSpec:
    """Hyperparameters of a variant.

    Attributes:
        dim: channels of stage 1; stage i (from 0) has ``dim * 2**i``.
        stem_dim: channels between the two convolutions of the stem; ignored by the patch stem.
        depths: blocks in each of the four stages.
        num_heads: attention heads per stage; ignored in convolutional stages.
        window_sizes: tokens along a window's side, per stage; ignored in convolutional stages.
        carrier_size: carrier tokens along a window's side, where ``hat`` is true; more than the window's
            tokens are interpolated (table S.4 has 9 in windows of 7).
        hat: stages with hierarchical attention (carrier tokens); only stages with attention support it.
        layer_scale: initial value of the per-channel scales of the attention blocks; None for no scales.
        propagation: add the carriers back to their windows in the last block of a stage.
        mlp_ratio: ratio of the hidden width of the MLPs to their input width.
        conv: stages of convolutional blocks; the others have attention.
        hat_every: in stages with carriers, only every so many-th block is hierarchical; the carriers pass the
            other blocks unchanged.
        stem: 'conv', two strided convolutions, or 'patch', Swin's patches of 4x4 pixels with a LayerNorm.
        downsample: 'conv', LayerNorm and a strided convolution, or 'merge', Swin's patch merging.
        carrier_window: carriers along the side of a window of carriers, at least twice ``carrier_size``.
            Where an image has more along a side, its carriers attend within such windows, which have
            carriers of their own, and so on: the cost per pixel does not grow. No other parameters.
            None: carriers attend to all carriers, as in the paper.
    """

    dim: int
    stem_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_sizes: tuple[int, ...] = (7, 7, 7, 7)
    carrier_size: int = 2
    hat: tuple[bool, ...] = (False, False, True, False)
    layer_scale: float | None = None
    propagation: bool = False
    mlp_ratio: float = 4.0
    conv: tuple[bool, ...] = (True, True, False, False)
    hat_every: int = 1
    stem: Literal['conv', 'patch'] = 'conv'
    downsample: Literal['conv', 'merge'] = 'conv'
    carrier_window: int | None = None

    def __post_init__(self) -> None:
        for name in ('depths', 'num_heads', 'window_sizes', 'hat', 'conv'):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)  # configs pass lists; a frozen dataclass needs this call
            if len(values) != NUM_STAGES:
                raise ValueError(
                    f'{name}={values} has {len(values)} entries, FasterViT has {NUM_STAGES} stages'
                )
        sizes = (self.dim, self.stem_dim, self.carrier_size)
        if min(*sizes, *self.depths, *self.num_heads, *self.window_sizes) < 1:
            raise ValueError(f'sizes, depths and heads must be at least 1: {self}')
        self._check_carriers()
        for name, kinds in _KINDS.items():
            if getattr(self, name) not in kinds:
                raise ValueError(f'{name} must be one of {kinds}, got {getattr(self, name)!r}')
        self._check_heads()

    def _check_carriers(self) -> None:
        if self.carrier_window is not None and self.carrier_window < 2 * self.carrier_size:
            raise ValueError(
                f'carrier_window={self.carrier_window} must be at least twice '
                f'carrier_size={self.carrier_size}'
            )
        if self.hat_every < 1:
            raise ValueError(f'hat_every must be at least 1, got {self.hat_every}')

    def _check_heads(self) -> None:
        for i in range(NUM_STAGES):
            channels, heads = self.channels[i], self.num_heads[i]
            if self.conv[i]:
                if self.hat[i]:
                    raise ValueError(
                        f'hat={self.hat}: stage {i + 1} is convolutional, only stages with attention can '
                        'have carriers'
                    )
                continue
            if channels % heads:
                raise ValueError(
                    f'stage {i + 1} has {channels} channels, which is not divisible by {heads} heads'
                )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.dim * 2**i for i in range(NUM_STAGES))


def _21k(window: int) -> ArchSpec:
    return ArchSpec(
        dim=196,
        stem_dim=64,
        depths=(3, 3, 12, 5),
        num_heads=(4, 8, 16, 32),
        window_sizes=(7, 7, window, max(7, window // 2)),
        hat=(False,) * NUM_STAGES,
        layer_scale=1e-5,
    )


def _scaled(dim: int, depths: tuple[int, ...], num_heads: tuple[int, ...]) -> ArchSpec:
    return ArchSpec(
        dim=dim, stem_dim=64, depths=depths, num_heads=num_heads, layer_scale=1e-5, propagation=True
    )


def _swin_t_hat(hat: tuple[bool, ...], hat_every: int = 2) -> ArchSpec:
    return ArchSpec(
        dim=96,
        stem_dim=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        hat=hat,
        hat_every=hat_every,
        conv=(False,) * NUM_STAGES,
        stem='patch',
        downsample='merge',
    )


ARCHS: dict[str, ArchSpec] = {
    # not in the paper: small enough to train on a CPU in minutes
    'nano': ArchSpec(dim=32, stem_dim=32, depths=(1, 2, 4, 2), num_heads=(1, 2, 4, 8)),
    '0': ArchSpec(dim=64, stem_dim=64, depths=(2, 3, 6, 5), num_heads=(2, 4, 8, 16)),
    '1': ArchSpec(dim=80, stem_dim=32, depths=(1, 3, 8, 5), num_heads=(2, 4, 8, 16)),
    '2': ArchSpec(dim=96, stem_dim=64, depths=(3, 3, 8, 5), num_heads=(2, 4, 8, 16)),
    '3': _scaled(128, (3, 3, 12, 5), (2, 4, 8, 16)),
    '4': _scaled(196, (3, 3, 12, 5), (4, 8, 16, 32)),
    '5': _scaled(320, (3, 3, 12, 5), (4, 8, 16, 32)),
    '6': _scaled(320, (3, 3, 16, 8), (4, 8, 16, 32)),
    '4_21k_224': _21k(14),
    '4_21k_384': _21k(24),
    '4_21k_512': _21k(32),
    '4_21k_768': _21k(48),
    # Swin-T with carriers (table 7), in place of the shifted windows: in all stages, or in the third
    'swin_t_hat': _swin_t_hat((True,) * NUM_STAGES),
    'swin_t_hat_stage3': _swin_t_hat((False, False, True, False), hat_every=1),
}


def resolve_arch(arch: str | ArchSpec | Mapping[str, Any], **replaced: Any) -> ArchSpec:
    """Return the spec for a name in :data:`ARCHS`, a spec or a mapping of its fields.

    Args:
        arch: any of these.
        replaced: fields to replace, where not None.

    Raises:
        ValueError: unknown name; the message lists the known ones.
        TypeError: a mapping with an unknown or a missing field, or an unsupported type.
    """
    replaced = {name: value for name, value in replaced.items() if value is not None}
    spec = _resolve(arch)
    return replace(spec, **replaced) if replaced else spec


def _resolve(arch: str | ArchSpec | Mapping[str, Any]) -> ArchSpec:
    if isinstance(arch, ArchSpec):
        return arch
    if isinstance(arch, int) and not isinstance(arch, bool):
        arch = str(arch)  # --cfg-options turns '4' into 4
    if isinstance(arch, str):
        if arch not in ARCHS:
            known = ', '.join(ARCHS)
            raise ValueError(
                f'unknown arch {arch!r}, expected one of {known}, an ArchSpec or a dict of its fields'
            )
        return ARCHS[arch]
    if isinstance(arch, Mapping):
        known_fields = [f.name for f in fields(ArchSpec)]
        unknown = set(arch) - set(known_fields)
        if unknown:
            raise TypeError(f'arch has unknown field(s) {sorted(unknown)}, ArchSpec has {known_fields}')
        return ArchSpec(**arch)
    raise TypeError(f'arch must be a name, an ArchSpec or a dict of its fields, got {type(arch).__name__}')
