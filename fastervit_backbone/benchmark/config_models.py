"""Models of configs for benchmarks, built without downloads."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.compiled import compile_backbone
from ..models.fastervit import FasterViT
from ..utils.errors import UserError
from .setting import Setting


def build_config_model(
    path: Path, make: Callable[[Mapping], nn.Module] | None = None
) -> tuple[nn.Module, str]:
    """Build the model of a config, without downloads; also returns its scope ('mmdet', ...).

    Args:
        path: of the config.
        make: builds ``config.model``; None leaves the weights uninitialized, which is enough to count them.

    Raises:
        UserError: no such config, or it cannot be read.
    """
    from mmengine.registry import MODELS, init_default_scope

    from ..engine.config.adaptations import fit_to_machine
    from ..engine.config.load import load_config

    config = load_config(path)
    init_default_scope(config.get('default_scope', 'mmengine'))
    fit_to_machine(config, 'none')
    return (make or MODELS.build)(config.model), config.default_scope


def data_samples(scope: str, size: tuple[int, int], batch: int = 1) -> list:
    """Create the data samples that the toolkits' models need beside images of exactly ``size``."""
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample as DataSample
    elif scope == 'mmpretrain':
        from mmpretrain.structures import DataSample
    else:
        from mmdet.structures import DetDataSample as DataSample
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape', 'pad_shape'), size)
    return [DataSample(metainfo=dict(shapes, scale_factor=(1.0, 1.0))) for _ in range(batch)]


def config_step(path: str, mode: str, setting: Setting, images: Tensor) -> Callable[[], None]:
    """Build a whole detector, segmenter or classifier; a step goes from normalized images to predictions."""
    try:
        from ..engine.runner.build import build_untrained
    except ModuleNotFoundError as error:
        raise UserError(f'{path} needs the package {error.name}: make setup installs it') from error
    if setting.train or setting.channels_last:
        raise UserError(
            f'{path}: of whole models only contiguous inference is measured: '
            'leave out --train, --channels-last'
        )
    before, _, last = mode.rpartition(':')
    checkpoint, is_deployed = (before, True) if last == 'deploy' else (mode, False)
    if checkpoint:
        from ..inference.load_model import load_model

        model, config, _ = load_model(path, checkpoint, None, 0.0)
        scope = config.default_scope
    else:
        model, scope = build_config_model(Path(path), build_untrained)
    if scope == 'mmdet':
        from ..ops.float32 import run_in_float32

        run_in_float32()  # mmcv's operators do not support bfloat16
    model = model.eval().to(setting.device)
    if is_deployed:
        backbone = model.backbone
        if not isinstance(backbone, FasterViT):
            raise UserError(f'{path}:deploy: the backbone {type(backbone).__name__} has no deploy mode')
        model.backbone = backbone.deploy(setting.size, dtype=setting.low_precision, batch=setting.batch)
    if setting.compile:
        compile_backbone(model, setting.device)
    samples = data_samples(scope, setting.size, setting.batch)
    autocast = setting.autocast()

    def predict() -> None:
        with torch.inference_mode(), autocast:
            model.predict(images, samples)

    return predict
