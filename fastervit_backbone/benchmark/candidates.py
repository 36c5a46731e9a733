"""Models by name for benchmarks: this package's, the published code's, timm's, and whole detectors or segmenters from configs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.arch import ARCHS
from ..models.fastervit import FasterViT
from ..utils.errors import UserError

KINDS = (
    'fastervit:ARCH, fastervit:ARCH:deploy, published:ARCH (needs the pip package fastervit), timm:MODEL, CONFIG.py or CONFIG.py:deploy '
    '(needs mmdet and mmseg)'
)


@dataclass(frozen=True)
class Setting:
    """What all candidates are run with.

    Attributes:
        size: (height, width) of the images.
        batch: images at once.
        dtype: 'fp32', 'tf32' (CUDA alone), 'bf16' or 'fp16'; the last two are autocast, and the weights' own dtype in deploy mode.
        device: 'cpu' or 'cuda'.
        channels_last: memory format of images and weights.
        compile: through ``torch.compile``.
        train: forward and backward, instead of inference.
    """

    size: tuple[int, int]
    batch: int = 1
    dtype: str = 'fp32'
    device: str = 'cpu'
    channels_last: bool = False
    compile: bool = False
    train: bool = False

    @property
    def autocast(self) -> torch.dtype | None:
        """The lower dtype, or None."""
        return {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(self.dtype)


def build(name: str, setting: Setting) -> Callable[[], None]:
    """A candidate's work: calling it runs one inference or training step.

    Raises:
        UserError: an unknown name, a package that is not installed, or a setting that it cannot run.
    """
    kind, _, rest = name.partition(':')
    images = torch.randn(setting.batch, 3, *setting.size, generator=torch.Generator().manual_seed(0)).to(
        setting.device
    )
    if setting.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    if kind.endswith('.py'):
        return _config_work(kind, rest, setting, images)
    if kind == 'fastervit':
        model, own_dtype = fastervit(rest, setting)
    elif kind in ('published', 'timm'):
        model, own_dtype = (_published if kind == 'published' else _timm)(rest, setting), False
        model.to(
            setting.device,
            memory_format=torch.channels_last if setting.channels_last else torch.contiguous_format,
        )
    else:
        raise UserError(f'no candidate {name!r}: expected {KINDS}')
    if setting.compile:
        model = torch.compile(model)
    return _step(model, images, setting, own_dtype)


def _step(model: nn.Module, images: Tensor, setting: Setting, own_dtype: bool) -> Callable[[], None]:
    autocast = torch.autocast(
        setting.device, setting.autocast, enabled=setting.autocast is not None and not own_dtype
    )

    def infer() -> None:
        with torch.inference_mode(), autocast:
            model(images)

    def train() -> None:
        with autocast:
            out = model(images)
        (out[-1] if isinstance(out, list | tuple) else out).float().square().mean().backward()
        for p in model.parameters():
            p.grad = None

    return train if setting.train else infer


def fastervit(rest: str, setting: Setting) -> tuple[nn.Module, bool]:
    """FasterViT by ``ARCH`` or ``ARCH:deploy``, and whether it computes in the setting's dtype by itself.

    Raises:
        UserError: no such arch or mode, or deploy mode in training.
    """
    arch, _, mode = rest.partition(':')
    if arch not in ARCHS or mode not in ('', 'deploy'):
        raise UserError(
            f'no candidate fastervit:{rest}: archs are {", ".join(ARCHS)}, with :deploy or without'
        )
    # what the classifiers compute and no more: the last map, without a norm of its own
    net = FasterViT(arch, out_indices=(3,), out_norm=None, drop_path_rate=0.2 if setting.train else 0.0)
    net.to(
        setting.device,
        memory_format=torch.channels_last if setting.channels_last else torch.contiguous_format,
    )
    net.train(setting.train)
    if mode == 'deploy':
        if setting.train:
            raise UserError('deploy mode cannot train: leave fastervit:...:deploy out, or --train')
        return net.deploy(setting.size, dtype=setting.autocast, batch=setting.batch), True
    return net, False


def _published(arch: str, setting: Setting) -> nn.Module:
    """The classifier of the pip package, without its last layer; sizes other than 224 are its "any_res" models, fixed to one."""
    try:
        import fastervit as package
    except ModuleNotFoundError as error:
        raise UserError(
            'published:... needs the package fastervit (pip install fastervit; its licence is non-commercial)'
        ) from error
    if arch not in ('0', '1', '2', '3', '4', '5', '6'):
        raise UserError(f'no candidate published:{arch}: archs are 0 to 6')
    drop = dict(drop_path_rate=0.2 if setting.train else 0.0)
    if setting.size == (224, 224):
        model = package.create_model(f'faster_vit_{arch}_224', pretrained=False, **drop)
    else:
        spec = ARCHS[arch]
        model = package.create_model(
            f'faster_vit_{arch}_any_res',
            pretrained=False,
            resolution=list(setting.size),
            window_size=list(spec.window_sizes),
            ct_size=spec.carrier_size,
            dim=spec.dim,
            **drop,
        )
    if hasattr(model, 'head'):
        model.head = nn.Identity()
    nn.Module.train(model, setting.train)  # its own eval() returns None
    return model


def _timm(rest: str, setting: Setting) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError('timm:... needs the package timm (pip install timm)') from error
    if not timm.is_model(rest):
        near = timm.list_models(f'*{rest.split("_")[0]}*')[:8]
        raise UserError(f'timm has no model {rest!r}' + (f', it has {", ".join(near)}' if near else ''))
    options = dict(num_classes=0) | (dict(drop_path_rate=0.2) if setting.train else {})
    if 'img_size' in inspect.signature(timm.model_entrypoint(rest)).parameters or rest.startswith(
        ('swin', 'vit', 'deit')
    ):
        options['img_size'] = setting.size
    return timm.create_model(rest, pretrained=False, **options).train(setting.train)


def build_config_model(
    path: Path, make: Callable[[Mapping], nn.Module] | None = None
) -> tuple[nn.Module, str]:
    """The model of a config, as it is on this machine, and its scope ('mmdet' or 'mmseg'); no weights are fetched.

    Args:
        path: the config.
        make: what builds ``config.model``; None builds it without giving its weights their first values, enough to count them.

    Raises:
        UserError: no such config, or it cannot be read.
    """
    from mmengine.registry import MODELS, init_default_scope

    from ..engine.config.adapt import fit_to_machine
    from ..engine.config.load import load_config

    config = load_config(path)
    init_default_scope(config.get('default_scope', 'mmengine'))
    fit_to_machine(config, 'none')
    return (make or MODELS.build)(config.model), config.default_scope


def _config_work(path: str, mode: str, setting: Setting, images: Tensor) -> Callable[[], None]:
    """A whole detector or segmenter, from normalised images to its predictions."""
    try:
        from ..engine.runner.build import build_untrained
    except ModuleNotFoundError as error:
        raise UserError(f'{path} needs the package {error.name}: make setup installs it') from error
    if mode not in ('', 'deploy'):
        raise UserError(f'no candidate {path}:{mode}: expected {KINDS}')
    if setting.train or setting.channels_last or setting.compile:
        raise UserError(
            f'{path}: whole models are measured in inference, contiguous and eager: leave out --train, --channels-last, --compile'
        )
    model, scope = build_config_model(Path(path), build_untrained)
    if scope == 'mmdet':
        from ..ops.float32 import run_in_float32

        run_in_float32()  # its operators take no bfloat16
    model = model.eval().to(setting.device)
    if mode == 'deploy':
        if not isinstance(model.backbone, FasterViT):
            raise UserError(
                f'{path}:deploy: its backbone is {type(model.backbone).__name__}, which has no deploy mode'
            )
        model.backbone = model.backbone.deploy(setting.size, dtype=setting.autocast, batch=setting.batch)
    sizes = dict(
        img_shape=setting.size, ori_shape=setting.size, batch_input_shape=setting.size, pad_shape=setting.size
    )
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    samples = [Sample(metainfo=dict(sizes, scale_factor=(1.0, 1.0))) for _ in range(setting.batch)]
    autocast = torch.autocast(setting.device, setting.autocast, enabled=setting.autocast is not None)

    def predict() -> None:
        with torch.inference_mode(), autocast:
            model.predict(images, samples)

    return predict
