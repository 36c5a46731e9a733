"""FasterViT as a dense backbone: four maps of strides 4, 8, 16, 32 from images of any size.

Paper: A. Hatamizadeh, G. Heinrich, H. Yin, A. Tao, J. M. Alvarez, J. Kautz, P. Molchanov, "FasterViT: Fast Vision Transformers with
Hierarchical Attention", ICLR 2024, arXiv 2306.06189. Written from the paper and from measured numbers of the published models; free of
any code from, or derived from, NVlabs/FasterViT. This code: Apache-2.0. The published weights: non-commercial, see NOTICE.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from .arch import NUM_STAGES, STRIDES, ArchSpec, resolve_arch
from .deploy import DeployedFasterViT, describe
from .layers.conv import ChannelLayerNorm, ConvStem
from .layers.memory_format import memory_format_of
from .layers.recompute import BATCH_NORM
from .stages import AttentionStage, ConvStage


class FasterViT(nn.Module):
    """The backbone; everything after ``arch`` is keyword-only and an unknown argument raises TypeError.

    Args:
        arch: name in :data:`~fastervit_backbone.models.arch.ARCHS`, an :class:`ArchSpec` or a dict of its fields.
        out_indices: stages whose maps are returned, from 0, ascending; stages after the last one are not built.
        drop_path_rate: stochastic depth of the last block, in [0, 1); rises linearly from 0 at the first.
        frozen_stages: -1 none; n freezes the stem and the first n stages (0: the stem alone), their BatchNorm statistics too.
            Output norms stay trainable: they are never pretrained.
        norm_eval: keep the trunk's BatchNorm statistics in training (for pretrained weights and small batches).
        with_cp: gradient checkpointing of every block.
        out_norm: norm over the channels of every output: ``'ln'``, ``'bn'`` or None for the stage's own map.
        window_sizes: four sides of windows, instead of the variant's.
        carrier_size: carriers along a window's side, instead of the variant's.
        in_chans: channels of the image.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH_OR_URL)``, read by :meth:`init_weights`, never by the constructor.

    Attributes:
        spec: the resolved :class:`ArchSpec`.
        out_channels, out_strides: of every returned map.

    Raises:
        ValueError: a value out of its range; the message names it.
        TypeError: an unknown argument or arch field.
    """

    def __init__(
        self,
        arch: str | ArchSpec | Mapping,
        *,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        out_norm: Literal['ln', 'bn'] | None = 'ln',
        window_sizes: tuple[int, ...] | None = None,
        carrier_size: int | None = None,
        in_chans: int = 3,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__()
        overrides = dict(window_sizes=window_sizes, carrier_size=carrier_size)
        self.spec = spec = replace(
            resolve_arch(arch), **{k: v for k, v in overrides.items() if v is not None}
        )
        self.out_indices = _check_out_indices(out_indices)
        self.frozen_stages, self.norm_eval, self.init_cfg = (
            frozen_stages,
            norm_eval,
            _check_init_cfg(init_cfg),
        )
        if frozen_stages not in range(-1, NUM_STAGES + 1):
            raise ValueError(
                f'frozen_stages must be -1 (none), 0 (stem) or 1..{NUM_STAGES}, got {frozen_stages}'
            )
        if not 0.0 <= drop_path_rate < 1.0:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
        if out_norm not in _OUT_NORMS:
            raise ValueError(f"out_norm must be 'ln', 'bn' or None, got {out_norm!r}")

        self.stem = ConvStem(in_chans, spec.stem_dim, spec.dim)
        rates = [drop_path_rate * i / max(sum(spec.depths) - 1, 1) for i in range(sum(spec.depths))]
        self.stages = nn.ModuleList()
        self.out_norms = nn.ModuleDict()  # keyed by stage, so that other out_indices keep the names
        channels, strides = [], []
        last = self.out_indices[-1]  # stages after it would get no gradient: they are not built
        for i, depth in enumerate(spec.depths[: last + 1]):
            drop_paths, rates = tuple(rates[:depth]), rates[depth:]
            downsample = i < last
            if i < 2:
                self.stages.append(ConvStage(spec.channels[i], drop_paths, downsample, with_cp))
            else:
                self.stages.append(AttentionStage(spec, i, drop_paths, downsample, with_cp))
            if i in self.out_indices:
                if out_norm is not None:
                    self.out_norms[str(i)] = _OUT_NORMS[out_norm](spec.channels[i])
                channels.append(spec.channels[i])
                strides.append(STRIDES[i])
        self.out_channels, self.out_strides = tuple(channels), tuple(strides)
        self._init_parameters()
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of the stages in ``out_indices``.

        Args:
            images: (B, in_chans, H, W), H and W at least 32, another size at every call if need be.

        Returns:
            for each stage i (B, C_i, ceil(H/s_i), ceil(W/s_i)), taken before downsampling; channels-last in memory if ``images`` is,
            else contiguous.

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
        """As ``nn.Module.train``, but frozen stages stay in eval, and with ``norm_eval`` the trunk's BatchNorm too."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if self.norm_eval:
            for trunk in (self.stem, self.stages):
                for module in trunk.modules():
                    if isinstance(module, BATCH_NORM):
                        module.eval()
        return self

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names (mmengine's runner calls this once, before training); without it the fresh weights stay.

        Raises: as :func:`~fastervit_backbone.checkpoint.load_published`.
        """
        if self.init_cfg is not None:
            from ..checkpoints.published import load_published  # the one upward import, and only on demand

            load_published(self, self.init_cfg['checkpoint'])

    def deploy(
        self,
        size: tuple[int, int] | None = None,
        *,
        dtype: torch.dtype | None = None,
        batch: int = 1,
        choices: Mapping[tuple[int, int, int], str] | None = None,
    ) -> DeployedFasterViT:
        """A copy for inference alone, as fast as we know how; this one stays as it is.

        Its maps equal those in eval mode within 1e-5 of the largest value in float32. On a CPU it measures every shape of layer as
        Linear and as 1x1 convolution (seconds) and says what it chose.

        Args:
            size: (height, width) of all images to come: positions of the carriers become constants too, another size is an error.
                None takes any.
            dtype: in which the copy holds its weights and computes (positions: float32); None for this one's. Maps come back in the
                dtype of the images.
            batch: images at once, for the measuring.
            choices: ``choices`` of an earlier copy, instead of measuring; shapes that it lacks (of another size or batch) are measured.

        Raises:
            ValueError: ``size`` below 32, or ``choices`` other than 'linear' and 'conv'.
        """
        if size is not None and (
            not isinstance(size, tuple | list) or len(size) != 2 or min(size) < STRIDES[-1]
        ):
            raise ValueError(f'size must be (height, width), each at least {STRIDES[-1]}, got {size}')
        if choices is not None and not set(choices.values()) <= {'linear', 'conv'}:
            raise ValueError(f"choices must be 'linear' or 'conv', got {sorted(set(choices.values()))}")
        deployed = DeployedFasterViT(
            copy.deepcopy(self), None if size is None else tuple(size), dtype, batch, choices
        )
        if deployed.choices:
            print(f'deploy: {describe(deployed.choices)}')
        return deployed

    def _frozen_modules(self) -> list[nn.Module]:
        return [] if self.frozen_stages < 0 else [self.stem, *self.stages[: self.frozen_stages]]

    def _init_parameters(self) -> None:
        """Linear weights from a normal of 0.02, truncated; convolutions as He et al. for their fan-out; biases 0."""
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.trunc_normal_(m.weight, std=0.02)
            elif isinstance(m, nn.Conv2d):
                fan_out = m.out_channels * m.weight[0, 0].numel() / m.groups
                nn.init.normal_(m.weight, std=(2 / fan_out) ** 0.5)
            if isinstance(m, nn.Linear | nn.Conv2d) and m.bias is not None:
                nn.init.zeros_(m.bias)


_OUT_NORMS: dict[str | None, Callable[[int], nn.Module] | None] = {
    'ln': lambda dim: ChannelLayerNorm(dim, eps=1e-6),
    'bn': nn.BatchNorm2d,
    None: None,
}


def _check_out_indices(out_indices: tuple[int, ...]) -> tuple[int, ...]:
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices)) or not set(indices) <= set(range(NUM_STAGES)):
        raise ValueError(
            f'out_indices must be ascending, distinct stages in 0..{NUM_STAGES - 1}, got {indices}'
        )
    return indices


def _check_init_cfg(init_cfg: Mapping | None) -> dict | None:
    if init_cfg is None:
        return None
    if set(init_cfg) != {'type', 'checkpoint'} or init_cfg['type'] != 'Pretrained':
        raise ValueError(
            f"init_cfg must be dict(type='Pretrained', checkpoint=PATH_OR_URL) or None, got {dict(init_cfg)}"
        )
    return dict(init_cfg)
