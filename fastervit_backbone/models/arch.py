"""The FasterViT variants as numbers, one frozen row each (arXiv 2306.06189, table S.1, and the released models)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

NUM_STAGES = 4
#: Overall stride of each stage's map: the stem has 4, every downsample doubles it.
STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class ArchSpec:
    """Everything that tells one variant from another.

    Attributes:
        dim: channels of stage 1; stage i (from 0) has ``dim * 2**i``.
        stem_dim: channels between the two convolutions of the stem.
        depths: blocks in each of the four stages.
        num_heads: attention heads per stage; the first two stages are convolutional and ignore theirs.
        window_sizes: tokens along a window's side, per stage; the first two are ignored.
        carrier_size: carrier tokens along a window's side, where ``hat`` is true.
        hat: which stages use hierarchical attention (carrier tokens); only stages 3 and 4 can.
        layer_scale: start value of the per-channel scales of the attention blocks; None for none.
        propagation: add the carriers back to their windows in a stage's last block.
        mlp_ratio: hidden width of the MLPs over their input.
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

    def __post_init__(self) -> None:
        for name in ('depths', 'num_heads', 'window_sizes', 'hat'):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)  # configs bring lists; frozen needs this spelling
            if len(values) != NUM_STAGES:
                raise ValueError(
                    f'{name}={values} has {len(values)} entries, FasterViT has {NUM_STAGES} stages'
                )
        positive = (
            self.dim,
            self.stem_dim,
            self.carrier_size,
            *self.depths,
            *self.num_heads,
            *self.window_sizes,
        )
        if min(positive) < 1:
            raise ValueError(f'sizes, depths and heads must be at least 1: {self}')
        if any(self.hat[:2]):
            raise ValueError(
                f'hat={self.hat}: stages 1 and 2 are convolutional, only stages 3 and 4 can have carrier tokens'
            )
        for i in (2, 3):
            if self.channels[i] % self.num_heads[i]:
                raise ValueError(
                    f'stage {i + 1} has {self.channels[i]} channels, which {self.num_heads[i]} heads do not divide'
                )
            if self.hat[i] and self.carrier_size > self.window_sizes[i]:
                raise ValueError(
                    f'carrier_size={self.carrier_size} exceeds the window of stage {i + 1}, {self.window_sizes[i]}'
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


_SCALED = dict(stem_dim=64, layer_scale=1e-5, propagation=True)

ARCHS: dict[str, ArchSpec] = {
    # ours, not the paper's: small enough to train on a CPU in minutes
    'nano': ArchSpec(dim=32, stem_dim=32, depths=(1, 2, 4, 2), num_heads=(1, 2, 4, 8)),
    '0': ArchSpec(dim=64, stem_dim=64, depths=(2, 3, 6, 5), num_heads=(2, 4, 8, 16)),
    '1': ArchSpec(dim=80, stem_dim=32, depths=(1, 3, 8, 5), num_heads=(2, 4, 8, 16)),
    '2': ArchSpec(dim=96, stem_dim=64, depths=(3, 3, 8, 5), num_heads=(2, 4, 8, 16)),
    '3': ArchSpec(dim=128, depths=(3, 3, 12, 5), num_heads=(2, 4, 8, 16), **_SCALED),
    '4': ArchSpec(dim=196, depths=(3, 3, 12, 5), num_heads=(4, 8, 16, 32), **_SCALED),
    '5': ArchSpec(dim=320, depths=(3, 3, 12, 5), num_heads=(4, 8, 16, 32), **_SCALED),
    '6': ArchSpec(dim=320, depths=(3, 3, 16, 8), num_heads=(4, 8, 16, 32), **_SCALED),
    '4_21k_224': _21k(14),
    '4_21k_384': _21k(24),
    '4_21k_512': _21k(32),
    '4_21k_768': _21k(48),
}


def resolve_arch(arch: str | ArchSpec | Mapping) -> ArchSpec:
    """Spec for a name in :data:`ARCHS`, a spec (returned as it is) or a mapping of its fields.

    Raises:
        ValueError: unknown name; the message lists the known ones.
        TypeError: a mapping with an unknown or a missing field, or another type.
    """
    if isinstance(arch, ArchSpec):
        return arch
    if isinstance(arch, int) and not isinstance(arch, bool):
        arch = str(arch)  # --cfg-options turns '4' into 4
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ValueError(
                f'unknown arch {arch!r}, expected one of {", ".join(ARCHS)}, an ArchSpec or a dict of its fields'
            )
        return ARCHS[arch]
    if isinstance(arch, Mapping):
        unknown = set(arch) - {f.name for f in fields(ArchSpec)}
        if unknown:
            raise TypeError(
                f'arch has unknown field(s) {sorted(unknown)}, ArchSpec has {[f.name for f in fields(ArchSpec)]}'
            )
        return ArchSpec(**arch)
    raise TypeError(f'arch must be a name, an ArchSpec or a dict of its fields, got {type(arch).__name__}')
