"""FasterViT as models of timm; importing the package registers them, where timm is installed.

``timm.create_model('fastervit_0', pretrained=True)`` is a classifier, with ``features_only=True`` a backbone
of four maps. The classifier is a BatchNorm over the last map, a global pool and a linear layer, as in the
published models.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from timm.layers import ClassifierHead
from timm.models import (
    build_model_with_cfg,
    register_model,
    register_notrace_function,
    register_notrace_module,
)
from torch import Tensor, nn

from .checkpoints.io import read_checkpoint, unwrap_state_dict
from .checkpoints.published import check_fit, read_tensors
from .checkpoints.stem import adapt_stem
from .models.arch import STRIDES
from .models.fastervit import FasterViT
from .models.layers import inplace
from .models.stages import AttentionStage
from .timm_cfgs import default_cfgs
from .utils.log import log

# FX cannot follow the number of windows, which depends on the image, and grad mode
register_notrace_module(AttentionStage)
for function in (inplace.gelu, inplace.relu, inplace.add_residual):
    register_notrace_function(function)


class FasterViTClassifier(nn.Module):
    """FasterViT with timm's interface.

    Args:
        arch: name in :data:`~fastervit_backbone.models.arch.ARCHS`.
        in_chans: channels of the image.
        num_classes: classes; 0 for none, pooled features then.
        global_pool: 'avg', 'max', 'avgmax', 'catavgmax', or '' for none.
        drop_rate: dropout before the linear layer, in [0, 1).
        drop_path_rate: stochastic depth of the last block, in [0, 1).
        window_sizes: windows' side lengths of the four stages, replacing the arch's.
        carrier_size: carriers along a window's side, replacing the arch's.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: an argument out of range.
        TypeError: an unknown argument.
    """

    def __init__(
        self,
        arch: str,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        window_sizes: tuple[int, ...] | None = None,
        carrier_size: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        trunk = FasterViT(
            arch,
            out_norm=None,
            drop_path_rate=drop_path_rate,
            window_sizes=window_sizes,
            carrier_size=carrier_size,
            in_chans=in_chans,
        )
        self.spec, self.in_chans, self.num_classes = trunk.spec, in_chans, num_classes
        self.num_features = self.head_hidden_size = trunk.out_channels[-1]
        self.feature_info: list[dict[str, Any]] = [
            dict(num_chs=channels, reduction=stride, module=f'stages.{i}')
            for i, (channels, stride) in enumerate(zip(trunk.out_channels, STRIDES, strict=True))
        ]
        self.stem, self.stages = trunk.stem, trunk.stages
        self.norm: nn.Module = nn.BatchNorm2d(self.num_features, eps=1e-5)
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.head_hidden_size = self.head.num_features
        if num_classes > 0:
            nn.init.trunc_normal_(self.head.fc.weight, std=0.02)
            nn.init.zeros_(self.head.fc.bias)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W), H and W at least 32 -> (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, C, ceil(H/32), ceil(W/32)), normalized."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            if stage.downsample is not None:
                x = stage.downsample(x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C, h, w) -> (B, num_classes), or the pooled features (B, C)."""
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal['NCHW'] = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last map and the maps of stages, before downsampling.

        Args:
            x: images (B, in_chans, H, W).
            indices: stages; a number means the last so many, None all.
            norm: normalize the last stage's map.
            stop_early: do not run stages after the last one that is asked for.
            output_fmt: 'NCHW'.
            intermediates_only: return only the list.

        Raises:
            ValueError: another ``output_fmt``.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take, last = _stages_to_take(len(self.stages), indices)
        intermediates = []
        x = self.stem(x)
        stages = self.stages[: last + 1] if stop_early else self.stages
        for i, stage in enumerate(stages):
            x = stage(x)
            if i in take:
                is_final = i == len(self.feature_info) - 1
                intermediates.append(self.norm(x) if norm and is_final else x)
            if stage.downsample is not None and i < len(stages) - 1:
                x = stage.downsample(x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if len(stages) == len(self.feature_info) else x), intermediates

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the maps of ``indices`` do not need; return the indices as a list."""
        take, last = _stages_to_take(len(self.stages), indices)
        ends_early = last < len(self.stages) - 1
        self.stages = self.stages[: last + 1]
        self.stages[-1].downsample = None
        if ends_early:
            self.num_features = self.feature_info[last]['num_chs']
            self.head.reset(0, in_features=self.num_features)
        if prune_norm or ends_early:
            self.norm = nn.Identity()
        if prune_head or ends_early:
            self.reset_classifier(0)
        return take

    def get_classifier(self) -> nn.Module:
        """Return the linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer, and the pool unless ``global_pool`` is None."""
        self.num_classes = num_classes
        like = next(self.stem.parameters())
        self.head.reset(num_classes, global_pool, device=like.device, dtype=like.dtype)
        self.head_hidden_size = self.head.num_features

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass."""
        for stage in self.stages:
            stage.with_cp = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that group parameters by depth: stages, or single blocks."""
        if coarse:
            return dict(stem=r'^stem', blocks=r'^stages\.(\d+)')
        blocks = [
            (r'^stages\.(\d+)\.blocks\.(\d+)', None),
            (r'^stages\.(\d+)\.tokenizer', (0,)),
            (r'^stages\.(\d+)\.downsample', (99998,)),
            (r'^norm', (99999,)),
        ]
        return dict(stem=r'^stem', blocks=blocks)

    def no_weight_decay(self) -> set[str]:
        """Return the names that timm's optimizers must not decay, beyond all vectors: none."""
        return set()

    def load_pretrained(self, source: str) -> None:
        """Load a published file, or one of ours, with its classifier; timm calls it if ``pretrained``.

        With another number of classes the linear layer stays as it is; with other channels the first
        convolution is adapted as timm does it.

        Args:
            source: path or http(s) URL.

        Raises:
            CheckpointError: the file cannot be read or does not fit.
        """
        content = read_checkpoint(source)
        whole = unwrap_state_dict(content)
        file = read_tensors({'state_dict': whole, 'meta': content.get('meta')})
        tensors = dict(file.tensors)
        for theirs, ours in (('norm', 'norm'), ('head', 'head.fc'), ('head.fc', 'head.fc')):
            for key, value in whole.items():
                prefix, _, name = key.rpartition('.')
                if prefix == theirs:
                    tensors[f'{ours}.{name}'] = value
        expected, fresh = self.state_dict(), []
        for name in ('head.fc.weight', 'head.fc.bias'):
            if name not in expected or (name in tensors and tensors[name].shape != expected[name].shape):
                fresh += [name] if name in expected else []
                tensors.pop(name, None)
        tensors, _ = adapt_stem(tensors, self.state_dict())
        whole_model = tensors | {name: expected[name] for name in fresh}
        check_fit(self, whole_model, str(source), meta=content.get('meta'))
        self.load_state_dict(tensors, strict=False)
        kept = f', newly initialized: {", ".join(fresh)}' if fresh else ''
        log(f'{source}: {len(tensors)} tensors loaded, {len(file.rebuilt)} position buffers rebuilt{kept}')


def _stages_to_take(count: int, indices: int | Sequence[int] | None) -> tuple[list[int], int]:
    """Return the stages that ``indices`` mean (the last so many; some, negative from the end), and the last.

    Raises:
        ValueError: there is no such stage.
    """
    wanted = count if indices is None else indices
    wanted = range(count - wanted, count) if isinstance(wanted, int) else wanted
    take = [count + i if i < 0 and not isinstance(wanted, range) else i for i in wanted]
    if not take or min(take) < 0 or max(take) >= count:
        raise ValueError(f'indices {indices}: the model has {count} stages')
    return take, max(take)


def _create(name: str, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    arch = name.removeprefix('fastervit_')
    features = dict(out_indices=(0, 1, 2, 3), feature_cls='getter')
    return build_model_with_cfg(
        FasterViTClassifier, name, pretrained, arch=arch, feature_cfg=features, **options
    )


def _register(name: str) -> None:
    """Register a model: timm wants a function of its name in a module that lists it."""

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        return _create(name, pretrained, options)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f'FasterViT {name.removeprefix("fastervit_")}, see :class:`FasterViTClassifier`.'
    globals()[name] = register_model(create)


for model_name in default_cfgs:
    _register(model_name)
