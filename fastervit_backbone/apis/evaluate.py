"""Evaluation behind tools/test.py."""

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from ..checkpoints.io import read_checkpoint, safe_loading, unwrap_state_dict
from ..checkpoints.published import check_fit
from ..engine.hooks.segmentation_pictures import SegmentationPictures, write_overview
from ..engine.processes import rank0_print
from ..engine.runner.build import build_runner, prepare, unwrap_model
from ..engine.runner.work_dir import find_checkpoint
from ..utils.errors import UserError
from ..utils.files import check_file_writable, check_folder_writable, replacing

#: mmengine's names of the figures people ask for first, and what divides them to give 0..1.
FIGURES = {
    'coco/bbox_mAP': ('box AP', 1),
    'coco/segm_mAP': ('mask AP', 1),
    'pascal_voc/mAP': ('mAP', 1),
    'mIoU': ('mIoU', 100),
    'aAcc': ('pixel accuracy', 100),
}


def test(
    config_path: str | Path,
    checkpoint: str | Path,
    *,
    work_dir: str | Path | None = None,
    show_dir: str | Path | None = None,
    out: str | Path | None = None,
    tta: bool = False,
    deploy: bool = False,
    options: Mapping[str, object] | None = None,
    launcher: str = 'none',
) -> dict[str, float]:
    """Evaluate a checkpoint on a config's test data.

    Args:
        config_path: the config.
        checkpoint: a file, or a work dir (its last checkpoint).
        work_dir: where the log goes; default ``work_dirs/<config name>``.
        show_dir: write every image with its ground truth and prediction here, and an overview of the first ones.
        out: write predictions (``.pkl``) or metrics (``.json``) here.
        tta: average over the scales and flips of the config's ``tta_pipeline``, by its ``tta_model``.
        deploy: run the backbone's copy for inference (:meth:`~fastervit_backbone.FasterViT.deploy`).
        options: ``--cfg-options``.
        launcher: as of :func:`train`.

    Returns:
        metric names and values.

    Raises:
        UserError: bad input, or a checkpoint that does not fit the model.
    """
    config = prepare(config_path, work_dir, options, launcher, splits=('test',))
    asked = copy.deepcopy(config)
    if tta:
        _check_tta(config)
        config.test_dataloader.dataset.pipeline = config.tta_pipeline
    kind = config.model.get('backbone', {}).get('type')
    if deploy and kind != 'FasterViT':
        raise UserError(
            f'--deploy: the backbone of {config_path} is {kind}, which has no deploy mode: leave it out'
        )
    out = None if out is None else Path(out)
    if out is not None:
        check_file_writable('--out', out)
        if out.suffix not in ('.pkl', '.json'):
            raise UserError(f'--out {out}: the name must end in .pkl (predictions) or .json (metrics)')
    if show_dir is not None:
        check_folder_writable('--show-dir', show_dir)
    path = find_checkpoint(checkpoint)
    weights = unwrap_state_dict(read_checkpoint(path))
    config.update(
        load_from=str(path), resume=False
    )  # weights alone: what a resumed run had written down wants an optimizer too
    semantic = config.get('default_scope') == 'mmseg'
    if show_dir is not None:
        show_dir = Path(os.path.abspath(show_dir))
    if show_dir is not None and not semantic:
        config.default_hooks.setdefault('visualization', dict(type='DetVisualizationHook'))
        # absolute: mmdet joins it to its own run folder otherwise
        config.default_hooks.visualization.update(draw=True, test_out_dir=str(show_dir))
    runner = build_runner(config, launcher, asked)
    if isinstance(runner.model, nn.Module):  # not yet with mmengine's FlexibleRunner
        check_fit(unwrap_model(runner.model), weights, str(path))
    del weights
    if show_dir is not None and semantic:
        runner.register_hook(SegmentationPictures(show_dir))
    if deploy:
        if any(type(hook).__name__ == 'EMAHook' for hook in runner.hooks):
            raise UserError(
                '--deploy: EMAHook exchanges weights before testing, and deploy mode has others: leave one of them out'
            )
        runner.register_hook(_Deploy())
    if tta:
        runner.register_hook(_AverageViews(config.tta_model))
    if out is not None and out.suffix == '.pkl':
        _dump_predictions(runner, out, semantic)
    with safe_loading():
        metrics = runner.test()
    if runner.rank == 0:
        if out is not None and out.suffix == '.json':
            record = dict(
                config=str(config_path),
                checkpoint=str(path),
                metrics={k: float(v) for k, v in metrics.items()},
            )
            with replacing(out) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + '\n')
        for line in _summary(metrics, show_dir, out):
            rank0_print(line)
    return metrics


class _Deploy(Hook):
    """Replaces the backbone, once its weights are loaded."""

    def before_test(self, runner: Runner) -> None:
        model = unwrap_model(runner.model)
        model.backbone = model.backbone.deploy()


class _AverageViews(Hook):
    """Puts the config's ``tta_model`` around the bare model before testing; mmengine's own hook would leave DDP in between."""

    def __init__(self, tta_model: Mapping) -> None:
        self.tta_model = dict(tta_model)

    def before_test(self, runner: Runner) -> None:
        runner.model = MODELS.build(dict(self.tta_model, module=unwrap_model(runner.model)))


def _check_tta(config: Config) -> None:
    missing = [name for name in ('tta_model', 'tta_pipeline') if not config.get(name)]
    if missing:
        raise UserError(
            f'--tta: {config.filename} has no {" and no ".join(missing)}: leave it out, or give the config them'
        )


def _dump_predictions(runner: Runner, path: Path, semantic: bool) -> None:
    if semantic:
        from mmengine.evaluator import DumpResults as Dump
    else:
        from mmdet.evaluation import DumpDetResults as Dump
    runner.test_evaluator.metrics.append(Dump(out_file_path=str(path)))


def _summary(metrics: Mapping[str, float], show_dir: Path | None, out: Path | None) -> list[str]:
    lines = [
        ', '.join(
            f'{name} {metrics[key] / whole:.3f}' for key, (name, whole) in FIGURES.items() if key in metrics
        )
    ]
    if not metrics:
        lines = ['no detections in any image, so there is nothing to score: AP 0']
    if show_dir is not None:
        overview = write_overview(show_dir)
        lines.append(
            f'pictures (ground truth left, prediction right): {show_dir}'
            + (f', the first ones together: {overview}' if overview else '')
        )
    if out is not None:
        lines.append(f'written: {out}')
    return [line for line in lines if line]
