"""FasterViT as a dense backbone: four maps of strides 4, 8, 16, 32 from images of any size.

Paper: A. Hatamizadeh, G. Heinrich, H. Yin, A. Tao, J. M. Alvarez, J. Kautz, P. Molchanov, "FasterViT: Fast
Vision Transformers with Hierarchical Attention", ICLR 2024, arXiv 2306.06189. Written from the paper and from
measured numbers of the published models; free of any code from, or derived from, NVlabs/FasterViT. This code:
Apache-2.0. The published weights: non-commercial, see NOTICE.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from .arch import NUM_STAGES, STRIDES, ArchSpec, resolve_arch
from .deploy import DeployedFasterViT, Kernel, describe
from .layers.conv import ChannelLayerNorm, ConvStem, PatchStem
from .layers.low_rank import add_adapters
from .layers.memory_format import memory_format_of
from .layers.recompute import BATCH_NORM
from .stages import AttentionStage, ConvStage


class FasterViT(nn.Module):
    """FasterViT backbone; arguments after ``arch`` are keyword-only, an unknown one raises TypeError.

    Args:
        arch: name in :data:`~fastervit_backbone.models.arch.ARCHS`, an :class:`ArchSpec` or a dict of its
            fields.
        out_indices: stages whose maps are returned, from 0, ascending; stages after the last one are not
            built.
        drop_path_rate: stochastic depth of the last block, in [0, 1); rises linearly from 0 at the first.
        frozen_stages: -1 freezes nothing; n freezes the stem and the first n stages (0: only the stem),
            including their BatchNorm statistics; 5 also freezes the output norms, which only a classifier's
            weights contain.
        adapters: rank of the matrices that learn beside the linear layers of attention and MLPs in frozen
            stages (LoRA, Hu et al., arXiv 2106.09685); 0 for none.
        norm_eval: keep the trunk's BatchNorm statistics in training (for pretrained weights and small
            batches).
        with_cp: gradient checkpointing of every block.
        out_norm: norm over the channels of every output: ``'ln'``, ``'bn'`` or None for the stage's own map.
        window_sizes: window side lengths of the four stages, replacing the variant's.
        carrier_size: carriers along a window's side, replacing the variant's.
        carrier_window: carriers along the side of a window of carriers, replacing the variant's: for images
            of many megapixels, see :class:`ArchSpec`.
        in_chans: channels of the image.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH_OR_URL)``, read by :meth:`init_weights`, never by
            the constructor.

    Attributes:
        spec: the resolved :class:`ArchSpec`.
        in_chans: channels of the image.
        out_channels, out_strides: of every returned map.

    Raises:
        ValueError: an argument out of range; the message names it.
        TypeError: an unknown argument or arch field.
    """

    #: Reads the checkpoint of ``init_cfg``. The package sets it to
    #: :func:`~fastervit_backbone.checkpoints.published.load_published`, as models import no reader of files.
    load_pretrained: ClassVar[Callable[['FasterViT', str], object]]

    stages: Sequence[ConvStage | AttentionStage]

    def __init__(
        self,
        arch: str | ArchSpec | Mapping[str, Any],
        *,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        adapters: int = 0,
        norm_eval: bool = False,
        with_cp: bool = False,
        out_norm: Literal['ln', 'bn'] | None = 'ln',
        window_sizes: tuple[int, ...] | None = None,
        carrier_size: int | None = None,
        carrier_window: int | None = None,
        in_chans: int = 3,
        init_cfg: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.spec = spec = resolve_arch(
            arch, window_sizes=window_sizes, carrier_size=carrier_size, carrier_window=carrier_window
        )
        self.out_indices = _check_out_indices(out_indices)
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        self.init_cfg = _check_init_cfg(init_cfg)
        if frozen_stages not in range(-1, NUM_STAGES + 2):
            raise ValueError(
                f'frozen_stages must be -1 (none), 0 (stem), 1..{NUM_STAGES} or {NUM_STAGES + 1} (all), got '
                f'{frozen_stages}'
            )
        if not 0.0 <= drop_path_rate < 1.0:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
        if out_norm not in (*_OUT_NORMS, None):
            raise ValueError(f"out_norm must be 'ln', 'bn' or None, got {out_norm!r}")

        self.stem = self.make_stem()
        rates = [drop_path_rate * i / max(sum(spec.depths) - 1, 1) for i in range(sum(spec.depths))]
        stages = nn.ModuleList()
        last = self.out_indices[-1]  # later stages would get no gradient: they are not built
        for i, depth in enumerate(spec.depths[: last + 1]):
            drop_paths, rates = tuple(rates[:depth]), rates[depth:]
            stages.append(self.make_stage(i, drop_paths, i < last, with_cp))
        self.stages = cast(Sequence[ConvStage | AttentionStage], stages)
        self.out_channels = tuple(spec.channels[i] for i in self.out_indices)
        self.out_strides = tuple(STRIDES[i] for i in self.out_indices)
        # keyed by stage, so that the names do not depend on out_indices
        self.out_norms = nn.ModuleDict()
        if out_norm is not None:
            for i in self.out_indices:
                self.out_norms[str(i)] = _OUT_NORMS[out_norm](spec.channels[i])
        self.apply(init_layer)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        if (
            type(adapters) is not int
            or adapters < 0
            or (adapters and not sum(add_adapters(m, adapters) for m in self._frozen_modules()))
        ):
            raise ValueError(
                f'adapters={adapters} must be a rank above 0, with frozen_stages that have attention, or 0; '
                f'frozen_stages is {frozen_stages}'
            )
        self.train()

    def make_stem(self) -> ConvStem | PatchStem:
        """Create the stem of :attr:`spec`."""
        spec = self.spec
        if spec.stem == 'patch':
            return PatchStem(self.in_chans, spec.dim)
        return ConvStem(self.in_chans, spec.stem_dim, spec.dim)

    def make_stage(
        self, index: int, drop_paths: tuple[float, ...], downsample: bool, with_cp: bool
    ) -> ConvStage | AttentionStage:
        """Create a stage of :attr:`spec`; for the arguments see :class:`~.stages.AttentionStage`."""
        kind = ConvStage if self.spec.conv[index] else AttentionStage
        return kind(self.spec, index, drop_paths, downsample, with_cp)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the stages in ``out_indices``.

        Args:
            images: (B, in_chans, H, W), H and W at least 32; the size may change from call to call.

        Returns:
            for each stage i (B, C_i, ceil(H/s_i), ceil(W/s_i)), taken before downsampling; channels-last in
            memory if ``images`` is, else contiguous.

        Raises:
            ValueError: not four dimensions, or a side below 32.
        """
        if images.ndim != 4 or min(images.shape[2:]) < STRIDES[-1]:
            raise ValueError(
                f'images must be (B, C, H, W) with H and W at least {STRIDES[-1]}, got {tuple(images.shape)}'
            )
        memory_format = memory_format_of(images)
        x, outputs = self.stem(images), []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                out = self.out_norms[str(i)](x) if str(i) in self.out_norms else x
                outputs.append(out.contiguous(memory_format=memory_format))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> 'FasterViT':
        """Set the mode; frozen stages stay in eval, and with ``norm_eval`` so does the trunk's BatchNorm."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if self.norm_eval:
            for part in (self.stem, *self.stages):
                for module in part.modules():
                    if isinstance(module, BATCH_NORM):
                        module.eval()
        return self

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``, if any (mmengine's runner calls this once before training).

        Raises:
            CheckpointError: see :func:`~fastervit_backbone.checkpoint.load_published`.
        """
        if self.init_cfg is not None:
            self.load_pretrained(self.init_cfg['checkpoint'])

    def deploy(
        self,
        size: tuple[int, int] | None = None,
        *,
        dtype: torch.dtype | None = None,
        batch: int = 1,
        choices: Mapping[tuple[int, int, int], Kernel] | Literal['linear'] | None = None,
    ) -> DeployedFasterViT:
        """Return a copy optimized for inference; this model is not changed.

        The copy's maps equal those of eval mode within 1e-5 of the largest value in float32. On a CPU it
        times every layer shape as Linear and as 1x1 convolution (seconds) and prints what it chose.

        Args:
            size: (height, width) of all images: the positions of the carriers become constants too, and
                another size is an error. None accepts any size.
            dtype: dtype of the copy's weights and computation (positions: float32); None for this model's.
                Maps are returned in the dtype of the images.
            batch: images per batch, for the timing.
            choices: ``choices`` of an earlier copy, instead of timing; shapes that it lacks (of another size
                or batch) are timed. 'linear': every layer stays one, as export needs.

        Raises:
            ValueError: ``size`` below 32, or ``choices`` other than 'linear' and 'conv'.
        """
        if size is not None:
            if not isinstance(size, tuple | list) or len(size) != 2 or min(size) < STRIDES[-1]:
                raise ValueError(f'size must be (height, width), each at least {STRIDES[-1]}, got {size}')
            size = (size[0], size[1])
        if isinstance(choices, Mapping) and not set(choices.values()) <= {'linear', 'conv'}:
            raise ValueError(f"choices must be 'linear' or 'conv', got {sorted(set(choices.values()))}")
        deployed = DeployedFasterViT(copy.deepcopy(self), size, dtype, batch, choices)
        if deployed.choices:
            print(f'deploy: {describe(deployed.choices)}')
        return deployed

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        norms = [self.out_norms] if self.frozen_stages > NUM_STAGES else []
        return [self.stem, *self.stages[: self.frozen_stages], *norms]


def init_layer(m: nn.Module) -> None:
    """Initialize Linears, truncated normal of std 0.02, and convolutions, He et al. by fan-out; biases: 0."""
    if isinstance(m, nn.Linear):
        nn.init.trunc_normal_(m.weight, std=0.02)
    elif isinstance(m, nn.Conv2d):
        fan_out = m.out_channels * m.weight[0, 0].numel() / m.groups
        nn.init.normal_(m.weight, std=(2 / fan_out) ** 0.5)
    if isinstance(m, nn.Linear | nn.Conv2d) and m.bias is not None:
        nn.init.zeros_(m.bias)


_OUT_NORMS: dict[str, Callable[[int], nn.Module]] = {
    'ln': lambda dim: ChannelLayerNorm(dim, eps=1e-6),
    'bn': nn.BatchNorm2d,
}


def _check_out_indices(out_indices: tuple[int, ...]) -> tuple[int, ...]:
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices)) or not set(indices) <= set(range(NUM_STAGES)):
        raise ValueError(
            f'out_indices must be ascending, distinct stages in 0..{NUM_STAGES - 1}, got {indices}'
        )
    return indices


def _check_init_cfg(init_cfg: Mapping[str, str] | None) -> dict[str, str] | None:
    if init_cfg is None:
        return None
    config = dict(init_cfg)
    if set(config) != {'type', 'checkpoint'} or config['type'] != 'Pretrained':
        raise ValueError(
            f"init_cfg must be dict(type='Pretrained', checkpoint=PATH_OR_URL) or None, got {config}"
        )
    return config
