"""FasterViT as a backbone of transformers (extra ``outside``); importing this module registers it.

``FasterViTBackbone.from_pretrained(FOLDER)`` reads what ``fastervit publish`` wrote, and a
``FasterViTConfig`` is the ``backbone_config`` of transformers' own detectors and segmenters.
"""

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from .checkpoints.io import PACKAGED
from .checkpoints.model_folder import WEIGHTS_NAME
from .checkpoints.published import load_published, read_tensors
from .models.arch import NUM_STAGES, resolve_arch
from .models.fastervit import FasterViT, init_layer
from .utils.errors import CheckpointError

__all__ = ['FasterViTBackbone', 'FasterViTConfig']


class FasterViTConfig(BackboneConfigMixin, PreTrainedConfig):
    """What a :class:`FasterViTBackbone` is built of.

    Args:
        arch: as :class:`~fastervit_backbone.FasterViT` takes it: a name, or a dict of fields.
        out_features: names of the returned maps, of ``stage1`` to ``stage4``; default: the last.
        out_indices: the same as numbers from 0.
        out_norm: norm over the channels of every output: ``'ln'``, ``'bn'`` or None.
        drop_path_rate: stochastic depth of the last block, in [0, 1).
        frozen_stages: see :class:`~fastervit_backbone.FasterViT`.
        norm_eval: keep BatchNorm's statistics in training.
        num_channels: of the image.

    Raises:
        ValueError: an unknown arch or stage.
    """

    model_type = 'fastervit'

    def __init__(
        self,
        arch: str | Mapping[str, Any] = '0',
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        out_norm: str | None = 'ln',
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        num_channels: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arch = arch if isinstance(arch, str) else dict(arch)
        self.out_norm, self.drop_path_rate = out_norm, drop_path_rate
        self.frozen_stages, self.norm_eval, self.num_channels = frozen_stages, norm_eval, num_channels
        self.hidden_size = resolve_arch(self.arch).channels[-1]
        self.stage_names = [f'stage{i + 1}' for i in range(NUM_STAGES)]
        self.set_output_features_output_indices(out_features, out_indices)


class FasterViTBackbone(BackboneMixin, PreTrainedModel):
    """:class:`~fastervit_backbone.FasterViT` with transformers' interface; the maps are the same."""

    config_class = FasterViTConfig
    main_input_name = 'pixel_values'
    has_attentions = False

    def __init__(self, config: FasterViTConfig) -> None:
        super().__init__(config)
        self.net = _build(config)
        self.num_features = list(self.net.spec.channels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Give the tensors of a layer that no file has the initial values of :class:`FasterViT`."""
        tensors = dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
        loaded = {k: t.clone() for k, t in tensors.items() if getattr(t, '_is_hf_initialized', False)}
        if isinstance(module, nn.Linear | nn.Conv2d):
            init_layer(module)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            module.reset_parameters()
        for name, tensor in tensors.items():
            if name in loaded:
                tensor.copy_(loaded[name])
            elif name in ('scale1', 'scale2'):
                tensor.fill_(self.net.spec.layer_scale or 1.0)

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BackboneOutput | tuple[tuple[Tensor, ...]]:
        """Compute the maps of (B, num_channels, H, W), any H and W from 32.

        Raises:
            ValueError: hidden states or attentions are asked for.
        """
        if output_hidden_states or output_attentions:
            raise ValueError('a FasterViT returns maps: no hidden states, no attentions')
        maps = self.net(pixel_values)
        return BackboneOutput(feature_maps=maps) if return_dict is not False else (maps,)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any
    ) -> 'FasterViTBackbone':
        """Read a folder of ``save_pretrained`` or of ``fastervit publish``, ``fastervit://nano``, or a file.

        Args:
            pretrained_model_name_or_path: folder, file, name, or repository of the Hub.
            model_args: see transformers.
            kwargs: fields of the config, in place of what the weights declare; for folders of
                ``save_pretrained`` and repositories also options of transformers.

        Raises:
            CheckpointError: no such file, or weights that do not fit.
            TypeError: an unknown field, or one beside ``config``.
        """
        source = str(pretrained_model_name_or_path)
        weights = PACKAGED.get(source, Path(source))
        if weights.is_dir():
            if (weights / 'config.json').is_file():
                return super().from_pretrained(source, *model_args, **kwargs)
            weights = weights / WEIGHTS_NAME
        if not weights.is_file():
            if Path(source).exists() or Path(source).is_absolute() or source.startswith('.'):
                raise CheckpointError(f'no checkpoint at {weights}: check the path')
            return super().from_pretrained(source, *model_args, **kwargs)
        dtype, config = kwargs.pop('dtype', None), kwargs.pop('config', None)
        unknown = kwargs.keys() - inspect.signature(FasterViTConfig.__init__).parameters.keys()
        if unknown or (kwargs and config is not None):
            names = ', '.join(sorted(unknown or kwargs))
            raise TypeError(f'{names}: no field of FasterViTConfig, or given beside config')
        model = cls(_config_of(weights, source, kwargs) if config is None else config)
        load_published(model.net, weights)
        return model.eval() if dtype is None else model.eval().to(dtype)


def _build(config: FasterViTConfig) -> FasterViT:
    return FasterViT(
        config.arch,
        out_indices=tuple(i % NUM_STAGES for i in config.out_indices),
        out_norm=config.out_norm,
        drop_path_rate=config.drop_path_rate,
        frozen_stages=config.frozen_stages,
        norm_eval=config.norm_eval,
        in_chans=config.num_channels,
    )


def _config_of(weights: Path, name: str, fields: dict[str, Any]) -> FasterViTConfig:
    """Return the config that a weight file declares, changed by ``fields``.

    Raises:
        CheckpointError: it declares no arch, and ``fields`` name none.
    """
    file = read_tensors(weights, name)
    norms = sorted({int(key.split('.')[1]) for key in file.tensors if key.startswith('out_norms.')})
    found: dict[str, Any] = dict(out_indices=norms or list(range(NUM_STAGES)))
    if file.declared is not None:
        found |= dict(arch=asdict(file.declared.spec), num_channels=file.declared.in_chans or 3)
    elif 'arch' not in fields:
        raise CheckpointError(f'{name} does not say which FasterViT it is: give its arch, such as arch="0"')
    if {'out_indices', 'out_features'} & fields.keys():
        del found['out_indices']
    config = FasterViTConfig(**found | fields)
    if 'out_norm' not in fields and not norms:
        config.out_norm = None
    elif 'out_norm' not in fields and {i % NUM_STAGES for i in config.out_indices} <= set(norms):
        config.out_norm = 'bn' if f'out_norms.{norms[0]}.running_mean' in file.tensors else 'ln'
    return config  # else new norms: those of the file are a classifier's, of its last map


AutoConfig.register(FasterViTConfig.model_type, FasterViTConfig)
AutoBackbone.register(FasterViTConfig, FasterViTBackbone)
