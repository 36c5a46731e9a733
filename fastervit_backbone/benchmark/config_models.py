"""Models of configs for benchmarks, built without downloads."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..models.compiled import compile_backbone
from ..models.fastervit import FasterViT
from ..utils.errors import UserError
from .setting import Setting

if TYPE_CHECKING:
    from mmengine.config import Config

    from ..export.graph import Graph


def build_config_model(
    path: Path, make: Callable[[Mapping], nn.Module] | None = None
) -> "tuple[nn.Module, 'Config']":
    """Build the model of a config, without downloads; also returns the config.

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
    return (make or MODELS.build)(config.model), config


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


def config_graph(path: str, checkpoint: str, setting: Setting) -> 'Graph':
    """Make the module that exports the model of a config; see :func:`config_step`."""
    from ..export.build import build_graph

    model, config = _model(path, checkpoint, setting)
    return build_graph(model, config, setting.size, backbone=False)


def in_chans_of(backbone: torch.nn.Module) -> int:
    """Return how many channels the images of a backbone have."""
    return int(getattr(backbone, 'in_chans', 3))


def config_step(path: str, mode: str, setting: Setting, images: Tensor) -> Callable[[], None]:
    """Build a whole detector, segmenter or classifier; a step goes from normalized images to predictions.

    Args:
        path: of the config.
        mode: CHECKPOINT, ``deploy`` or both, between them a colon; without a checkpoint weights are random.
        setting: of all candidates.
        images: (B, 3, H, W); of a model of other channels, these are repeated.
    """
    if setting.train or setting.channels_last:
        raise UserError(
            f'{path}: of whole models only contiguous inference is measured: '
            'leave out --train, --channels-last'
        )
    before, _, last = mode.rpartition(':')
    checkpoint, is_deployed = (before, True) if last == 'deploy' else (mode, False)
    model, config = _model(path, checkpoint, setting)
    images = images[:, [i % 3 for i in range(in_chans_of(model.backbone))]].contiguous()
    if config.default_scope == 'mmdet':
        from ..ops.float32 import run_in_float32

        run_in_float32()  # mmcv's operators do not support bfloat16
    if is_deployed:
        backbone = model.backbone
        if not isinstance(backbone, FasterViT):
            raise UserError(f'{path}:deploy: the backbone {type(backbone).__name__} has no deploy mode')
        model.backbone = backbone.deploy(setting.size, dtype=setting.low_precision, batch=setting.batch)
    if setting.compile:
        compile_backbone(model, setting.device)
    samples = data_samples(config.default_scope, setting.size, setting.batch)
    autocast = setting.autocast()

    def predict() -> None:
        with torch.inference_mode(), autocast:
            model.predict(images, samples)

    return predict


def _model(path: str, checkpoint: str, setting: Setting) -> "tuple[Any, 'Config']":
    """Build or load a model in eval mode on the setting's device, which finds the objects it asks for."""
    try:
        from ..engine.runner.build import build_untrained
        from ..inference.load_model import load_model
    except ModuleNotFoundError as error:
        raise UserError(f'{path} needs the package {error.name}: make setup installs it') from error
    model: Any
    if checkpoint:
        model, config, _ = load_model(path, checkpoint, None, 0.0)
    else:
        model, config = build_config_model(Path(path), build_untrained)
    model = model.eval().to(setting.device)
    if setting.objects is not None:
        _find_objects(path, model, setting)
    return model, config


def _find_objects(path: str, model: Any, setting: Setting) -> None:
    """Lower the score threshold until a detector finds ``setting.objects`` in noise, and limit it to them.

    It finds three times as many without the limit, so that a file or another precision finds enough, too.

    Raises:
        UserError: no detector with a score threshold.
    """
    assert setting.objects is not None
    head = getattr(model, 'roi_head', None) or getattr(model, 'bbox_head', None)
    cfg = getattr(head, 'test_cfg', None) or {}
    if 'score_thr' not in cfg or 'max_per_img' not in cfg:
        raise UserError(f'--objects: {path} has no score threshold (test_cfg.score_thr): leave it out')
    generator = torch.Generator().manual_seed(0)
    shape = (1, in_chans_of(model.backbone), *setting.size)
    images = torch.randn(shape, generator=generator).to(setting.device)
    wanted = cfg.max_per_img = 3 * setting.objects
    masks = getattr(head, 'mask_head', None)
    with torch.inference_mode():
        maps = model.extract_feat(images)
    model.extract_feat = lambda _: maps  # the same in each try
    if masks is not None:
        head.mask_head = None  # not needed to count
    try:
        low, high = 1e-6, 1.0
        while high > 1.05 * low:
            cfg.score_thr = (low * high) ** 0.5
            with torch.inference_mode():
                (result,) = model.predict(images, data_samples('mmdet', setting.size))
            enough = len(result.pred_instances) >= wanted
            low, high = (cfg.score_thr, high) if enough else (low, cfg.score_thr)
    finally:
        del model.extract_feat
        if masks is not None:
            head.mask_head = masks
    cfg.score_thr, cfg.max_per_img = low, setting.objects
