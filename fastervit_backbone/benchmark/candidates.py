"""Models by name for benchmarks: of this package, the published code and timm, and of configs."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.arch import ARCHS, STRIDES, ArchSpec
from ..models.compiled import compile_in_place
from ..models.fastervit import FasterViT
from ..utils.errors import UserError
from .config_models import config_graph, config_step
from .setting import Setting

KINDS = (
    'fastervit:ARCH[:carrier_window=N][:deploy, :onnx, :onnx-int8, :openvino or :openvino-int8], '
    'an exported file, stage:ARCH:NUMBER[:carrier_window=N], '
    'published:ARCH (needs the pip package fastervit), timm:MODEL, '
    'CONFIG.py[:CHECKPOINT][:deploy, :onnx, ...] (needs mmdet and mmseg), '
    'windows:ARCH:KERNEL (of fastervit_paper); and :compile at the end'
)

#: Kinds that other packages add: name -> what builds a candidate from the rest of its name.
MORE_KINDS: dict[str, Callable[[str, Setting], Callable[[], object]]] = {}
_OPENVINO = ('openvino', 'openvino-int8')
#: Endings of names of models that are exported for the measurement.
_EXPORTED = ('onnx', 'onnx-int8', *_OPENVINO)


def build(name: str, setting: Setting) -> Callable[[], object]:
    """Build a candidate; the returned function runs one inference or training step.

    Raises:
        UserError: an unknown name, a package that is not installed, or an unsupported setting.
    """
    if name.endswith(':compile'):
        name, setting = name.removesuffix(':compile'), replace(setting, compile=True)
    kind, _, rest = name.partition(':')
    if kind in MORE_KINDS:
        return MORE_KINDS[kind](rest, setting)
    exported = _exported_step(name, setting)
    if exported is not None:
        return exported
    images = torch.randn(setting.batch, 3, *setting.size, generator=torch.Generator().manual_seed(0))
    images = images.to(setting.device).contiguous(memory_format=setting.memory_format)
    if kind.endswith('.py'):
        return config_step(kind, rest, setting, images)
    autocast = setting.autocast()
    if kind == 'stage':
        model, images = _stage(rest, setting)
    elif kind == 'fastervit':
        model, casts_itself = build_fastervit(rest, setting)
        autocast = setting.autocast(enabled=not casts_itself)
    elif kind in ('published', 'timm'):
        model = _published(rest, setting) if kind == 'published' else _timm(rest, setting)
        model.to(setting.device, memory_format=setting.memory_format)
    else:
        raise UserError(f'no candidate {name!r}: expected {KINDS}')
    if setting.compile:
        compile_in_place(model, setting.device)

    def infer() -> None:
        with torch.inference_mode(), autocast:
            model(images)

    def train() -> None:
        with autocast:
            out = model(images)
        last_map = out[-1] if isinstance(out, list | tuple) else out
        last_map.float().square().mean().backward()
        for p in model.parameters():
            p.grad = None

    return train if setting.train else infer


def _exported_step(name: str, setting: Setting) -> Callable[[], None] | None:
    """Build an exported file, or a model that is exported for the measurement; None for others."""
    from ..inference.exported_formats import is_exported

    before, _, ending = name.rpartition(':')
    is_config = before.partition(':')[0].endswith('.py')
    exports = (is_config or name.startswith('fastervit:')) and ending in _EXPORTED
    if not is_exported(name) and not exports:
        return None
    if setting.train or setting.compile or setting.channels_last or setting.device != 'cpu':
        raise UserError(f'{name} runs only on a cpu: leave out --train, --compile, --channels-last, --device')
    if setting.dtype != 'fp32' and not (
        setting.dtype == 'bf16' and (ending in _OPENVINO or name.endswith('.xml'))
    ):
        raise UserError(f'{name}: use --dtype fp32, or bf16 with openvino')
    try:
        from .exported import backbone_graph, file_step, graph_step
    except ModuleNotFoundError as error:
        raise UserError(f'{name} needs the package {error.name}: make setup installs it') from error
    if is_exported(name):
        return file_step(Path(name), setting.size, setting.batch, setting.dtype)
    if is_config:
        path, _, checkpoint = before.partition(':')
        graph = config_graph(path, checkpoint, setting)
    else:
        net, _ = build_fastervit(before.removeprefix('fastervit:'), setting)
        assert isinstance(net, FasterViT)
        graph = backbone_graph(net, setting.size)
    return graph_step(graph, ending, setting.size, setting.batch, setting.dtype)


def build_fastervit(name: str, setting: Setting) -> tuple[nn.Module, bool]:
    """Build ``ARCH[:carrier_window=N][:deploy]``; also returns whether it casts to the dtype itself.

    Raises:
        UserError: no such arch or mode, or deploy mode in training.
    """
    rest, is_deployed = name.removesuffix(':deploy'), name.endswith(':deploy')
    options = 'with or without :carrier_window=N and :deploy'
    spec = _spec(rest, f'no candidate fastervit:{name}: use {", ".join(ARCHS)}, {options}')
    if is_deployed and setting.train:
        raise UserError('deploy mode cannot train: use fastervit:ARCH without :deploy, or leave out --train')
    # exactly what classifiers compute: the last map, without an output norm
    net = FasterViT(spec, out_indices=(3,), out_norm=None, drop_path_rate=0.2 if setting.train else 0.0)
    net.to(setting.device, memory_format=setting.memory_format).train(setting.train)
    if is_deployed:
        return net.deploy(setting.size, dtype=setting.low_precision, batch=setting.batch), True
    return net, False


def spec_named(name: str) -> ArchSpec:
    """Return the spec of ``fastervit:ARCH[:carrier_window=N]``.

    Raises:
        UserError: another name.
    """
    message = f'{name}: expected fastervit:ARCH, of {", ".join(ARCHS)}'
    if not name.startswith('fastervit:'):
        raise UserError(message)
    return _spec(name.removeprefix('fastervit:').removesuffix(':deploy'), message)


def _spec(name: str, message: str) -> ArchSpec:
    """Return the spec of ``ARCH[:carrier_window=N]``; raises UserError(message) for another name."""
    arch, _, option = name.partition(':')
    option_name, _, value = option.partition('=')
    if arch not in ARCHS or (option and (option_name != 'carrier_window' or not value.isdigit())):
        raise UserError(message)
    try:
        return replace(ARCHS[arch], carrier_window=int(value)) if option else ARCHS[arch]
    except ValueError as error:
        raise UserError(f'{name}: {error}') from error


def _stage(name: str, setting: Setting) -> tuple[nn.Module, Tensor]:
    """Build one stage of FasterViT, ``ARCH:STAGE[:carrier_window=N]``, and the map it gets of an image."""
    arch, _, rest = name.partition(':')
    number, _, option = rest.partition(':')
    expected = 'stage:ARCH:NUMBER[:carrier_window=N], 1 to 4'
    message = f'no candidate stage:{name}: expected {expected}, of {", ".join(ARCHS)}'
    spec = _spec(f'{arch}:{option}' if option else arch, message)
    if number not in ('1', '2', '3', '4'):
        raise UserError(message)
    index = int(number) - 1
    net = FasterViT(spec, out_indices=(3,), out_norm=None).train(setting.train)
    height, width = (-(-side // STRIDES[index]) for side in setting.size)
    x = torch.randn(setting.batch, spec.channels[index], height, width, device=setting.device)
    x = x.contiguous(memory_format=setting.memory_format)
    return net.stages[index].to(setting.device), x


def _published(arch: str, setting: Setting) -> nn.Module:
    """Build a classifier of the pip package without its last layer; "any_res" for sizes other than 224."""
    try:
        import fastervit as package
    except ModuleNotFoundError as error:
        raise UserError(
            'published:... needs fastervit: pip install fastervit (non-commercial license)'
        ) from error
    if arch not in ('0', '1', '2', '3', '4', '5', '6'):
        raise UserError(f'no candidate published:{arch}: expected an arch of 0 to 6')
    options = dict(pretrained=False, **_drop_path(setting))
    if setting.size == (224, 224):
        model = package.create_model(f'faster_vit_{arch}_224', **options)
    else:
        spec = ARCHS[arch]
        model = package.create_model(
            f'faster_vit_{arch}_any_res',
            resolution=list(setting.size),
            window_size=list(spec.window_sizes),
            ct_size=spec.carrier_size,
            dim=spec.dim,
            **options,
        )
    if hasattr(model, 'head'):
        model.head = nn.Identity()
    nn.Module.train(model, setting.train)  # its own eval() returns None
    return model


def _timm(name: str, setting: Setting) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError('timm:... needs the package timm (pip install timm)') from error
    if not timm.is_model(name):
        similar = timm.list_models(f'*{name.split("_")[0]}*')[:8]
        raise UserError(f'timm has no model {name!r}' + (f', it has {", ".join(similar)}' if similar else ''))
    options = dict(pretrained=False, num_classes=0, **_drop_path(setting))
    has_img_size = 'img_size' in inspect.signature(timm.model_entrypoint(name)).parameters
    if has_img_size or name.startswith(('swin', 'vit', 'deit')):
        options['img_size'] = setting.size
    return timm.create_model(name, **options).train(setting.train)


def _drop_path(setting: Setting) -> dict[str, float]:
    return dict(drop_path_rate=0.2) if setting.train else {}
